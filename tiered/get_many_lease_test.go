package tiered

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote"
)

// C1: single Gets, batches and instances that ask for the same keys at the same time load each once.
func TestC1OneLoadOfEachKeyOfABatch(t *testing.T) {
	t.Parallel()
	t.Run("single Gets join a batch, and batches join each other", func(t *testing.T) {
		t.Parallel()
		onBoth(t, func(t *testing.T, r rig) {
			b := newBulk()
			c := bulkInstance(t, r, b)
			read, letGo := b.holdNextMany()
			defer letGo()
			first := getManyAsync(soon(t), c, "a", "b")
			wait(t, "the load", read)
			single := getAsync(soon(t), c, "a")
			second := getManyAsync(soon(t), c, "b", "c")
			eventually(t, "they joined", func() bool { return c.Stats().Joined == 2 })
			// What the second batch loads itself does not wait for what it has joined.
			require.Equal(t, 0, get(t, c, "c"))
			letGo()
			require.NoError(t, wait(t, "the single Get", single).err)
			require.Equal(t, map[string]int{"a": 0, "b": 0}, wait(t, "the first", first).vals)
			require.Equal(t, map[string]int{"b": 0, "c": 0}, wait(t, "the second", second).vals)
			require.Equal(t, map[string]int{"a": 1, "b": 1, "c": 1}, b.loaded())
		})
	})
	t.Run("a batch joins a single Get", func(t *testing.T) {
		t.Parallel()
		onBoth(t, func(t *testing.T, r rig) {
			b := newBulk()
			c := bulkInstance(t, r, b)
			read, letGo := b.holdNextMany()
			defer letGo()
			single := getAsync(soon(t), c, "a")
			wait(t, "the load", read)
			batch := getManyAsync(soon(t), c, "a", "b")
			require.Equal(t, 0, get(t, c, "b"))
			letGo()
			require.NoError(t, wait(t, "the single Get", single).err)
			require.Equal(t, map[string]int{"a": 0, "b": 0}, wait(t, "the batch", batch).vals)
			require.Equal(t, map[string]int{"a": 1, "b": 1}, b.loaded())
		})
	})
	t.Run("two instances, overlapping", func(t *testing.T) {
		t.Parallel()
		onBoth(t, func(t *testing.T, r rig) {
			b := newBulk()
			f := bulkFleet(t, 2, r, b)
			read, letGo := b.holdNextMany()
			defer letGo()
			first := getManyAsync(soon(t), f[0], "a", "b", "c")
			wait(t, "the load", read)
			second := getManyAsync(soon(t), f[1], "b", "c", "d", "e")
			// The ones that it has the leases of are not held up by the others.
			require.Equal(t, 0, get(t, f[1], "d"))
			eventually(t, "they are filled", func() bool { return f[1].Stats().Fills == 2 })
			eventually(t, "it waits", func() bool { return f[1].Stats().LeaseWaits >= 2 })
			require.Subset(t, awaited(f[1]), []string{"b", "c"}, "it would hear of them")
			letGo()
			require.Equal(t, map[string]int{"a": 0, "b": 0, "c": 0}, wait(t, "the first", first).vals)
			require.Equal(t, map[string]int{"b": 0, "c": 0, "d": 0, "e": 0}, wait(t, "the second", second).vals)
			eventually(t, "it listens no more", func() bool { return len(awaited(f[1])) == 0 })
			require.Equal(t, map[string]int{"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}, b.loaded())
		})
	})
	t.Run("two instances, all at once", func(t *testing.T) {
		t.Parallel()
		onBoth(t, func(t *testing.T, r rig) {
			b := newBulk()
			f := bulkFleet(t, 2, r, b, func(o *Options[int]) {
				// Redis answers and is believed, however busy the machine is.
				o.LeaseWait, o.RedisTimeout, o.MaxStaleness = time.Hour, time.Minute, time.Minute
			})
			for round := range 5 {
				keys := names(fmt.Sprint("round ", round, ":"), 30)
				began := time.Now()
				var wg sync.WaitGroup
				for i := range 4 {
					wg.Go(func() {
						mine := slices.Clone(keys[i*5 : i*5+15])
						rand.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
						if got, err := f[i%2].GetMany(context.Background(), mine); len(got) != len(mine) || err != nil {
							t.Errorf("%d values, %v", len(got), err)
						}
					})
				}
				wg.Wait()
				if took := time.Since(began); took > leaseTTL {
					t.Logf("round %d took %v: leases may have ended before they were renewed", round, took)
					continue
				}
				loaded := b.loaded()
				for _, key := range keys {
					require.Equal(t, 1, loaded[key], key)
				}
			}
			require.Zero(t, f[0].flights.underway()+f[1].flights.underway())
		})
	})
}

// awaited returns the keys that somebody of an instance wants to hear of.
func awaited(c *Cache[int]) []string {
	c.waiters.mu.Lock()
	defer c.waiters.mu.Unlock()
	return slices.Sorted(maps.Keys(c.waiters.byKey))
}

// Who waits for leases asks again for those that it is told of, at once, and goes on waiting for the others.
func TestABatchAsksAgainForWhatItIsToldOf(t *testing.T) {
	t.Parallel()
	r, b := newRedis(t), newBulk()
	c := bulkInstance(t, r, b)
	g := groupOf(t.Context(), c, longBudget(c, time.Minute))
	ms := membersOf([]*flight[int]{{key: "a"}, {key: "b"}, {key: "c"}})
	heard := newWords()
	for _, m := range ms {
		c.waiters.listen(m.key, heard)
	}
	c.waiters.tell("a", gaveUp)
	c.waiters.tell("a", newValue)
	c.waiters.tell("b", newValue)
	c.waiters.tell("another", newValue)
	patience := &leaseWait{until: time.Now().Add(time.Hour), poll: time.Hour}
	var wg sync.WaitGroup
	ask, rest := g.wait(&wg, patience, heard, ms)
	require.Equal(t, ms[:2], ask)
	require.Equal(t, ms[2:], rest)
	require.True(t, ms[0].failed, "the first word counts")
	require.False(t, ms[1].failed)
	c.waiters.tell("b", changed)
	ask, rest = g.wait(&wg, patience, heard, rest)
	require.Empty(t, ask)
	require.Equal(t, ms[2:], rest)
	for range 10 {
		heard.gather(t.Context())
	}
	require.Equal(t, maxGather, heard.pause)
	for _, m := range ms {
		c.waiters.remove(m.key, heard)
	}
	require.Empty(t, awaited(c))
}

// An instance whose load fails does not make the others wait for theirs in turn.
func TestABatchThatWaitsForALoadThatFails(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		b := newBulk()
		f := bulkFleet(t, 3, r, b, func(o *Options[int]) { o.LeaseWait = time.Hour })
		b.setErr(errSource)
		read, letGo := b.holdNextMany()
		defer letGo()
		first := getManyAsync(soon(t), f[0], "a", "b")
		wait(t, "the load", read)
		others := []<-chan results{getManyAsync(soon(t), f[1], "a", "b"), getManyAsync(soon(t), f[2], "b", "a")}
		eventually(t, "they wait", func() bool { return f[1].Stats().LeaseWaits >= 2 && f[2].Stats().LeaseWaits >= 2 })
		letGo()
		require.ErrorIs(t, wait(t, "the first", first).err, errSource)
		for _, other := range others {
			require.ErrorIs(t, wait(t, "another", other).err, errSource)
		}
	})
}

func TestABatchWaitsForALeaseNoLongerThanLeaseWait(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		b := newBulk()
		f := bulkFleet(t, 2, r, b, func(o *Options[int]) { o.LeaseWait = 50 * time.Millisecond })
		read, letGo := b.holdNextMany()
		defer letGo()
		first := getManyAsync(soon(t), f[0], "a", "b")
		wait(t, "the load", read)
		require.Equal(t, map[string]int{"a": 0, "b": 0, "c": 0}, getMany(t, f[1], "a", "b", "c"))
		require.Equal(t, map[string]int{"a": 2, "b": 2, "c": 1}, b.loaded())
		require.EqualValues(t, 1, f[1].Stats().Fills, "of the one that it had the lease of")
		letGo()
		wait(t, "the first", first)
	})
}

// The caller's context ends its wait and nothing else.
// What an instance has the leases of is loaded while the rest is waited for, and what comes first does not wait for the other.
func TestAPartOfABatchDoesNotHoldTheOthersUp(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		b := newBulk()
		f := bulkFleet(t, 2, r, b, func(o *Options[int]) { o.LeaseWait = time.Hour })
		readA, letGoA := b.holdNextMany()
		defer letGoA()
		first := getManyAsync(soon(t), f[0], "a")
		wait(t, "the other instance's load", readA)
		readB, letGoB := b.holdNextMany()
		defer letGoB()
		second := getManyAsync(soon(t), f[1], "a", "b")
		wait(t, "its own load", readB)
		joined := getAsync(soon(t), f[1], "a")
		eventually(t, "it joined", func() bool { return f[1].Stats().Joined == 1 })
		letGoA()
		require.NoError(t, wait(t, "what was waited for", joined).err)
		letGoB()
		require.Len(t, wait(t, "the batch", second).vals, 2)
		wait(t, "the other instance", first)
	})
}

func TestABatchWithoutLeases(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		b := newBulk()
		f := bulkFleet(t, 2, r, b, func(o *Options[int]) { o.NoLease = true })
		getMany(t, f[0], names("warm:", 50)...)
		count := tripsOf(dataOf(f[0])...)
		require.Len(t, getMany(t, f[0], "a", "b"), 2)
		singles, pipelines := count.take()
		require.Zero(t, singles)
		require.EqualValues(t, 2*r.mastersOf("a", "b"), pipelines, "leases and a fill")
		require.Len(t, getMany(t, f[1], "a", "b"), 2)
		loaded := b.loaded()
		require.Equal(t, []int{1, 1}, []int{loaded["a"], loaded["b"]})

		read, letGo := b.holdNextMany()
		defer letGo()
		batch := getManyAsync(soon(t), f[0], "c", "d")
		wait(t, "the load", read)
		require.Len(t, getMany(t, f[1], "c", "d"), 2, "nobody waits")
		b.write("c")
		require.NoError(t, f[1].Invalidate(soon(t), "c"))
		letGo()
		require.Len(t, wait(t, "the batch", batch).vals, 2)
		require.Equal(t, map[string]int{"c": 1, "d": 0}, getMany(t, bulkInstance(t, r, b), "c", "d"))
	})
}

// A lease that is lost during the load is noticed when it is renewed, and its value is not kept.
func TestALeaseOfABatchThatIsLost(t *testing.T) {
	t.Parallel()
	r, b := newRedis(t), newBulk()
	c := bulkInstance(t, r, b)
	getMany(t, c, "warm")
	g := groupOf(t.Context(), c, longBudget(c, patience))
	var fs []*flight[int]
	for _, key := range []string{"a", "b"} {
		n := &flight[int]{key: key, load: c.opts.Load, byCaller: true, ctx: t.Context(), done: make(chan struct{})}
		f, leads := c.flights.join(n)
		require.True(t, leads)
		fs = append(fs, f)
	}
	ms := membersAt(c, fs)
	for _, m := range ms {
		m.token = remote.NewToken()
		l, err := readsOf(c, m.key).Acquire(soon(t), m.key, m.token, remote.Wanted, leaseTTL, "inbox")
		require.NoError(t, err)
		m.lease, m.leased = l, time.Now()
	}
	r.Del(entryOf("a"))
	g.renew(t.Context(), ms)
	require.True(t, ms[0].lost.Load())
	require.False(t, ms[1].lost.Load())
	for _, m := range ms {
		m.loaded.val = 5
	}
	// Redis does not tell now, and L1 may have what it does not tell about. What it has told before counts.
	r.intercept(func(cmd string, args []string) error {
		if isScript(cmd, args, 2, 9) {
			return errors.New("ERR not now")
		}
		return nil
	})
	g.store(ms)
	r.up()
	require.Nil(t, c.local.Get("a"))
	require.Equal(t, 5, ms[0].val, "it is still the answer")
	require.EqualValues(t, 1, c.Stats().Refused)
	require.Equal(t, map[string]int{"a": 0, "b": 5}, getMany(t, c, "a", "b"))
}
