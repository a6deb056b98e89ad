package tiered

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/remote"
)

// bulk is a source that is asked for many keys at once.
type bulk struct {
	*source
	mu    sync.Mutex
	calls [][]string // sorted
	// stop, if set, is called after the versions have been read and before the loader returns.
	stop atomic.Pointer[func(keys []string)]
}

func newBulk() *bulk { return &bulk{source: newSource()} }

func (b *bulk) many(o *Options[int]) { o.Load, o.LoadMany = nil, b.loadMany }

func (b *bulk) loadMany(_ context.Context, keys []string) (map[string]int, error) {
	slices.Sort(keys) // they are the loader's
	b.mu.Lock()
	b.calls = append(b.calls, keys)
	b.mu.Unlock()
	b.loads.Add(1)
	out := map[string]int{"not asked for": 99}
	b.source.mu.Lock()
	for _, key := range keys {
		if !b.missing[key] {
			out[key] = b.versions[key]
		}
	}
	err := b.err
	b.source.mu.Unlock()
	if stop := b.stop.Load(); stop != nil {
		(*stop)(keys)
	}
	return out, err
}

// loaded returns how often each key has been asked for.
func (b *bulk) loaded() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := map[string]int{}
	for _, keys := range b.calls {
		for _, key := range keys {
			n[key]++
		}
	}
	return n
}

func (b *bulk) setErr(err error) {
	b.source.mu.Lock()
	defer b.source.mu.Unlock()
	b.err = err
}

// holdNextMany is holdNext for a load of many.
func (b *bulk) holdNextMany() (read <-chan struct{}, letGo func()) {
	reached, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	stop := func([]string) {
		first := false
		once.Do(func() { first = true })
		if first {
			close(reached)
			<-gate
		}
	}
	b.stop.Store(&stop)
	return reached, sync.OnceFunc(func() { close(gate) })
}

func bulkInstance(t testing.TB, r *redisServer, b *bulk, change ...func(*Options[int])) *Cache[int] {
	t.Helper()
	c := instance(t, r, b.source, append([]func(*Options[int]){b.many}, change...)...)
	// The first heartbeat may have been sent before the subscription was there: until the next one nothing of Redis is kept.
	eventually(t, "nothing is in doubt", func() bool { return c.gate.look().keep })
	return c
}

func bulkFleet(t testing.TB, n int, r *redisServer, b *bulk, change ...func(*Options[int])) []*Cache[int] {
	t.Helper()
	out := make([]*Cache[int], n)
	for i := range out {
		out[i] = bulkInstance(t, r, b, change...)
	}
	return out
}

func getMany(t testing.TB, c *Cache[int], keys ...string) map[string]int {
	t.Helper()
	got, err := c.GetMany(soon(t), keys)
	require.NoError(t, err)
	return got
}

type results struct {
	vals map[string]int
	err  error
}

func getManyAsync(ctx context.Context, c *Cache[int], keys ...string) <-chan results {
	out := make(chan results, 1)
	go func() {
		vals, err := c.GetMany(ctx, keys)
		out <- results{vals, err}
	}()
	return out
}

// trips counts a client's round trips.
type trips struct{ singles, pipelines atomic.Int64 }

func tripsOf(c *redis.Client) *trips {
	h := &trips{}
	c.AddHook(h)
	return h
}

func (h *trips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if name := cmd.Name(); name == "hget" || strings.HasPrefix(name, "eval") {
			h.singles.Add(1)
		}
		return next(ctx, cmd)
	}
}

func (h *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if name := cmds[0].Name(); name == "hget" || strings.HasPrefix(name, "eval") {
			h.pipelines.Add(1)
		}
		return next(ctx, cmds)
	}
}

func (h *trips) take() (singles, pipelines int64) { return h.singles.Swap(0), h.pipelines.Swap(0) }

func names(prefix string, n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprint(prefix, i)
	}
	return keys
}

func entryOf(key string) string { return "tandem:{things}:k:" + key }

func TestGetManyFillsBothTiersInThreeTrips(t *testing.T) {
	t.Parallel()
	r, b := newRedis(t), newBulk()
	f := bulkFleet(t, 2, r, b)
	getMany(t, f[0], "warm") // the scripts are known
	b.write("a")
	b.write("a")
	b.write("b")
	b.missing["none"] = true
	count := tripsOf(f[0].bus.data.Client)

	keys := []string{"a", "b", "none", "a", "c", "none"}
	want := map[string]int{"a": 2, "b": 1, "c": 0}
	require.Equal(t, want, getMany(t, f[0], keys...))
	singles, pipelines := count.take()
	require.Zero(t, singles)
	require.EqualValues(t, 3, pipelines, "a read, the leases, a fill")
	b.mu.Lock()
	require.Equal(t, [][]string{{"warm"}, {"a", "b", "c", "none"}}, b.calls)
	b.mu.Unlock()

	before := f[0].Stats()
	require.Equal(t, want, getMany(t, f[0], keys...))
	after := f[0].Stats()
	require.Equal(t, before.Commands, after.Commands, "all are in L1")
	require.EqualValues(t, len(keys), after.LocalHits-before.LocalHits)

	count = tripsOf(f[1].bus.data.Client)
	commands := f[1].Stats().Commands
	require.Equal(t, want, getMany(t, f[1], keys...))
	singles, pipelines = count.take()
	require.Zero(t, singles)
	require.EqualValues(t, 1, pipelines, "all are in Redis")
	require.EqualValues(t, 4, f[1].Stats().Commands-commands)
	require.EqualValues(t, 4, f[1].Stats().RemoteHits)
	_, err := f[1].Get(soon(t), "none")
	require.ErrorIs(t, err, ErrNotFound)
	require.EqualValues(t, 2, b.loads.Load(), "and so is that one is not found")
	require.False(t, r.Exists(entryOf("not asked for")))
	require.Zero(t, f[0].flights.underway())
}

func TestGetManyOfNothing(t *testing.T) {
	t.Parallel()
	r, b := newRedis(t), newBulk()
	c := bulkInstance(t, r, b)
	for _, keys := range [][]string{nil, {}} {
		got, err := c.GetMany(soon(t), keys)
		require.NoError(t, err)
		require.NotNil(t, got)
		require.Empty(t, got)
	}
	require.Zero(t, c.Stats().Commands)
}

func TestGetManyWithASingleLoader(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	var underway, most atomic.Int64
	c := instance(t, r, newSource(), with(func(_ context.Context, key string) (int, error) {
		n := underway.Add(1)
		defer underway.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		switch key {
		case "none":
			return 0, ErrNotFound
		case "bad":
			return 0, errSource
		case "panic":
			panic("a word")
		case "exit":
			runtime.Goexit()
		}
		return len(key), nil
	}))
	keys := append(names("key:", 200), "none", "bad", "panic", "exit", "", strings.Repeat("x", 9000))
	got, err := c.GetMany(soon(t), keys)
	require.Len(t, got, 200)
	for _, key := range keys[:200] {
		require.Equal(t, len(key), got[key])
	}
	require.ErrorIs(t, err, errSource)
	require.ErrorIs(t, err, ErrLoaderExited)
	require.ErrorIs(t, err, ErrInvalidKey)
	require.NotErrorIs(t, err, ErrNotFound)
	var p *PanicError
	require.ErrorAs(t, err, &p)
	var named []string
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		var k *KeysError
		require.ErrorAs(t, e, &k)
		named = append(named, k.Keys...)
	}
	require.ElementsMatch(t, keys[201:], named)
	require.LessOrEqual(t, most.Load(), int64(loadsAtOnce))
	require.Len(t, getMany(t, c, keys[:200]...), 200)
	require.EqualValues(t, 204, c.Stats().Loads)
	for _, key := range []string{"bad", "panic", "exit"} {
		eventually(t, "the lease of "+key+" is given up", func() bool { return !r.Exists(entryOf(key)) })
	}
	require.Zero(t, c.flights.underway())
}

func TestABulkLoadThatFails(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	gate := make(chan struct{})
	t.Cleanup(func() { close(gate) })
	for name, tt := range map[string]struct {
		fail func(ctx context.Context) (map[string]int, error)
		want error
	}{
		"error":   {func(context.Context) (map[string]int, error) { return map[string]int{"a": 7}, errSource }, errSource},
		"panic":   {func(context.Context) (map[string]int, error) { panic(cause) }, cause},
		"exit":    {func(context.Context) (map[string]int, error) { runtime.Goexit(); panic("unreachable") }, ErrLoaderExited},
		"hang":    {func(context.Context) (map[string]int, error) { <-gate; return map[string]int{"a": 7}, nil }, ErrLoadTimeout},
		"timeout": {func(ctx context.Context) (map[string]int, error) { <-ctx.Done(); return nil, ctx.Err() }, ErrLoadTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRedis(t)
			var calls atomic.Int64
			c := instance(t, r, newSource(), func(o *Options[int]) {
				o.LoadTimeout = 2 * time.Second
				if tt.want == ErrLoadTimeout { //nolint:errorlint // a row of the table
					o.LoadTimeout = 50 * time.Millisecond
				}
				o.Load, o.LoadMany = nil, func(ctx context.Context, keys []string) (map[string]int, error) {
					if calls.Add(1) == 1 {
						return tt.fail(ctx)
					}
					return map[string]int{"a": 1, "b": 2}, nil
				}
			})
			got, err := c.GetMany(soon(t), []string{"a", "b"})
			require.Empty(t, got)
			require.ErrorIs(t, err, tt.want)
			var k *KeysError
			require.ErrorAs(t, err, &k)
			require.ElementsMatch(t, []string{"a", "b"}, k.Keys)
			require.EqualError(t, err, `tiered: "a", "b": `+k.Err.Error())
			require.False(t, r.Exists(entryOf("a")), "the leases are given up, and nothing is stored")
			require.False(t, r.Exists(entryOf("b")))

			began := time.Now()
			got, err = c.GetMany(soon(t), []string{"a", "b"})
			require.NoError(t, err)
			require.Equal(t, map[string]int{"a": 1, "b": 2}, got)
			require.Less(t, time.Since(began), DefaultLeaseWait)
		})
	}
}

func TestABulkLoadThatFindsNothing(t *testing.T) {
	t.Parallel()
	r, b := newRedis(t), newBulk()
	b.setErr(fmt.Errorf("no rows: %w", ErrNotFound))
	f := bulkFleet(t, 2, r, b)
	require.Empty(t, getMany(t, f[0], "a", "b"))
	require.Empty(t, getMany(t, f[0], "a", "b"))
	require.Empty(t, getMany(t, f[1], "a", "b"))
	require.EqualValues(t, 1, b.loads.Load())
}

func TestAGetIsALoadManyOfOne(t *testing.T) {
	t.Parallel()
	r, b := newRedis(t), newBulk()
	b.missing["none"] = true
	c := bulkInstance(t, r, b)
	require.Equal(t, 0, get(t, c, "k"))
	_, err := c.Get(soon(t), "none")
	require.ErrorIs(t, err, ErrNotFound)
	b.setErr(errSource)
	_, err = c.Get(soon(t), "bad")
	require.ErrorIs(t, err, errSource)
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Equal(t, [][]string{{"k"}, {"none"}, {"bad"}}, b.calls)
}

func TestGetManyWithoutALoader(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	s.write("there")
	get(t, instance(t, r, s), "there")
	c := instance(t, r, s, with(nil))
	require.Equal(t, map[string]int{"there": 1}, getMany(t, c, "there", "gone"))
	require.False(t, r.Exists(entryOf("gone")))
	r.down()
	eventually(t, "the outage is known", func() bool { return !c.Health().RemoteTrusted })
	require.Empty(t, getMany(t, c, "gone"))
}

// C4: an invalidation in the middle of a bulk load keeps that key's result out of both tiers, and no other's.
func TestC4AnInvalidationDuringABulkLoad(t *testing.T) {
	t.Parallel()
	for _, writer := range []int{0, 1} {
		for name, write := range map[string]func(c *Cache[int], b *bulk) error{
			"Invalidate": func(c *Cache[int], b *bulk) error { b.write("k1"); return c.Invalidate(context.Background(), "k1") },
			"SetMany": func(c *Cache[int], b *bulk) error {
				return c.SetMany(context.Background(), map[string]int{"k1": b.write("k1")})
			},
		} {
			t.Run(fmt.Sprint(name, " by instance ", writer), func(t *testing.T) {
				t.Parallel()
				r, b := newRedis(t), newBulk()
				f := bulkFleet(t, 2, r, b)
				read, letGo := b.holdNextMany()
				defer letGo()
				batch := getManyAsync(soon(t), f[0], "k0", "k1", "k2")
				wait(t, "the load", read)
				received := f[0].Stats().Received
				require.NoError(t, write(f[writer], b))
				require.Equal(t, 1, get(t, f[writer], "k1"), "C2: it must not join the batch")
				eventually(t, "the loader has heard", func() bool { return f[0].Stats().Received > received })
				if writer == 1 { // else it is there already, from the Get above
					require.NoError(t, f[1].Invalidate(soon(t), "k1"))
					eventually(t, "the loader has heard", func() bool { return f[0].Stats().Received > received+1 })
				}
				letGo()
				got := wait(t, "the batch", batch)
				require.NoError(t, got.err)
				require.Equal(t, map[string]int{"k0": 0, "k1": 0, "k2": 0}, got.vals, "who asked before gets what it asked for")
				require.EqualValues(t, 1, f[0].Stats().Refused)
				require.Equal(t, writer == 0, r.Exists(entryOf("k1")))
				require.True(t, r.Exists(entryOf("k0")))
				require.True(t, r.Exists(entryOf("k2")))
				for _, c := range f {
					require.Equal(t, map[string]int{"k0": 0, "k1": 1, "k2": 0}, getMany(t, c, "k0", "k1", "k2"))
				}
				require.Equal(t, 1, b.loaded()["k0"])
				require.Equal(t, 1, b.loaded()["k2"])
			})
		}
	}
}

// C4 against L1 alone: Redis takes no part, so nothing but the ticket keeps the old result out.
func TestC4ABulkLoadWithoutRedis(t *testing.T) {
	t.Parallel()
	r, b := newRedis(t), newBulk()
	c := bulkInstance(t, r, b)
	r.down()
	eventually(t, "the outage is known", func() bool { return !c.Health().RemoteTrusted })
	read, letGo := b.holdNextMany()
	defer letGo()
	batch := getManyAsync(soon(t), c, "k0", "k1")
	wait(t, "the load", read)
	b.write("k1")
	require.ErrorIs(t, c.Invalidate(soon(t), "k1"), ErrPending)
	letGo()
	require.Equal(t, map[string]int{"k0": 0, "k1": 0}, wait(t, "the batch", batch).vals)
	require.Equal(t, map[string]int{"k0": 0, "k1": 1}, getMany(t, c, "k0", "k1"))
}

// C4: a new epoch begins during the load.
func TestC4ANewEpochDuringABulkLoad(t *testing.T) {
	t.Parallel()
	r, b := newRedis(t), newBulk()
	f := bulkFleet(t, 2, r, b)
	read, letGo := b.holdNextMany()
	defer letGo()
	batch := getManyAsync(soon(t), f[0], "k0", "k1")
	wait(t, "the load", read)
	b.write("k0")
	received := f[0].Stats().Received
	require.NoError(t, f[1].InvalidateAll(soon(t)))
	eventually(t, "the loader has heard", func() bool { return f[0].Stats().Received > received })
	letGo()
	require.Equal(t, map[string]int{"k0": 0, "k1": 0}, wait(t, "the batch", batch).vals)
	require.EqualValues(t, 2, f[0].Stats().Refused)
	for _, c := range f {
		require.Equal(t, map[string]int{"k0": 1, "k1": 0}, getMany(t, c, "k0", "k1"))
	}
}

// C1: single Gets, batches and instances that ask for the same keys at the same time load each once.
func TestC1OneLoadOfEachKeyOfABatch(t *testing.T) {
	t.Parallel()
	t.Run("single Gets join a batch, and batches join each other", func(t *testing.T) {
		t.Parallel()
		r, b := newRedis(t), newBulk()
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
	t.Run("a batch joins a single Get", func(t *testing.T) {
		t.Parallel()
		r, b := newRedis(t), newBulk()
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
	t.Run("two instances, overlapping", func(t *testing.T) {
		t.Parallel()
		r, b := newRedis(t), newBulk()
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
	t.Run("two instances, all at once", func(t *testing.T) {
		t.Parallel()
		r, b := newRedis(t), newBulk()
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
	g := &group[int]{c: c, ctx: t.Context(), budget: longBudget(c, time.Minute), open: c.gate.look()}
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
	r, b := newRedis(t), newBulk()
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
}

func TestABatchWaitsForALeaseNoLongerThanLeaseWait(t *testing.T) {
	t.Parallel()
	r, b := newRedis(t), newBulk()
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
}

// The caller's context ends its wait and nothing else.
// What an instance has the leases of is loaded while the rest is waited for, and what comes first does not wait for the other.
func TestAPartOfABatchDoesNotHoldTheOthersUp(t *testing.T) {
	t.Parallel()
	r, b := newRedis(t), newBulk()
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
}

func TestACallerWhoLeavesABatch(t *testing.T) {
	t.Parallel()
	r, b := newRedis(t), newBulk()
	c := bulkInstance(t, r, b)
	get(t, c, "there")
	read, letGo := b.holdNextMany()
	defer letGo()
	ctx, cancel := context.WithCancel(context.Background())
	batch := getManyAsync(ctx, c, "there", "a", "b")
	wait(t, "the load", read)
	cancel()
	got := wait(t, "the batch", batch)
	require.Equal(t, map[string]int{"there": 0}, got.vals)
	require.ErrorIs(t, got.err, context.Canceled)
	var k *KeysError
	require.ErrorAs(t, got.err, &k)
	require.ElementsMatch(t, []string{"a", "b"}, k.Keys)

	vals, err := c.GetMany(ctx, []string{"there", "a", "z"})
	require.Equal(t, map[string]int{"there": 0}, vals)
	require.ErrorIs(t, err, context.Canceled)
	letGo()
	eventually(t, "the load goes on", func() bool { return c.Stats().Fills == 3 })
	require.Equal(t, map[string]int{"a": 0, "b": 0}, getMany(t, c, "a", "b"))
	require.EqualValues(t, 2, b.loads.Load())
}

func TestGetManyOfAClosedCache(t *testing.T) {
	t.Parallel()
	r, b := newRedis(t), newBulk()
	c := bulkInstance(t, r, b)
	read, letGo := b.holdNextMany()
	defer letGo()
	batch := getManyAsync(soon(t), c, "a", "b")
	wait(t, "the load", read)
	require.NoError(t, c.Close())
	require.ErrorIs(t, wait(t, "the batch", batch).err, ErrClosed)
	_, err := c.GetMany(soon(t), []string{"a"})
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, c.SetMany(soon(t), map[string]int{"a": 1}), ErrClosed)
}

// A key that is written faster than it loads has flights that wait for their turn; a batch has to take such a one as it is.
func TestABatchWithAFlightThatIsQueued(t *testing.T) {
	t.Parallel()
	r, b := newRedis(t), newBulk()
	c := bulkInstance(t, r, b)
	var held []<-chan result
	var gates []func()
	for range maxRunning {
		read, letGo := b.holdNextMany()
		defer letGo()
		held, gates = append(held, getAsync(soon(t), c, "hot")), append(gates, letGo)
		wait(t, "the load", read)
		b.write("hot")
		require.NoError(t, c.Invalidate(soon(t), "hot"))
	}
	batch := getManyAsync(soon(t), c, "hot", "cold")
	eventually(t, "the rest of the batch is loaded", func() bool { return b.loaded()["cold"] == 1 })
	require.Equal(t, maxRunning, b.loaded()["hot"], "it has not started")
	for i, letGo := range gates {
		letGo()
		require.Equal(t, result{val: i}, wait(t, "an old load", held[i]))
	}
	require.Equal(t, map[string]int{"hot": maxRunning, "cold": 0}, wait(t, "the batch", batch).vals)
	require.Zero(t, c.flights.underway())
}

// A key whose invalidation Redis has not confirmed is not believed, the others of the batch are.
func TestC6ABatchWithAPendingKey(t *testing.T) {
	t.Parallel()
	r, b := newRedis(t), newBulk()
	f := bulkFleet(t, 2, r, b)
	getMany(t, f[1], "a", "b") // Redis has them
	r.intercept(func(cmd string, args []string) error {
		if isInvalidate(cmd, args) {
			return errors.New("ERR not now")
		}
		return nil
	})
	b.write("a")
	require.ErrorIs(t, f[0].Invalidate(soon(t), "a"), ErrPending)
	for range 2 {
		require.Equal(t, map[string]int{"a": 1, "b": 0}, getMany(t, f[0], "a", "b"))
	}
	require.Equal(t, map[string]int{"a": 3, "b": 1}, b.loaded(), "and what is loaded meanwhile is kept nowhere")
	r.up()
	eventually(t, "the repetition", func() bool { return f[0].Health().PendingKeys == 0 })
	require.Equal(t, map[string]int{"a": 1, "b": 0}, getMany(t, f[0], "a", "b"))
}

// A server takes over while the batch reads it, or asks it for leases.
func TestABatchDuringAMoveIsNotBelieved(t *testing.T) {
	t.Parallel()
	move := func(c *Cache[int]) {
		known, _ := c.gate.known()
		beat := goodBeat(mono.Now(), remote.EpochText(known.epoch))
		beat.RedisNow, beat.Moved = known.redisNow, true
		c.gate.report(beat)
	}
	for name, tt := range map[string]struct {
		at      func(cmd string, args []string) bool
		noLease bool
	}{
		"while it reads":           {func(cmd string, _ []string) bool { return cmd == "HGET" }, false},
		"while it asks for leases": {func(cmd string, args []string) bool { return isScript(cmd, args, 2, 11) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, b := newRedis(t), newBulk()
			f := bulkFleet(t, 2, r, b, func(o *Options[int]) { o.NoLease = tt.noLease })
			getMany(t, f[1], "a", "b")
			getMany(t, f[0], "warm")
			eventually(t, "a heartbeat", func() bool { return f[0].Health().RemoteTrusted })
			b.write("a") // and what invalidated it is lost
			b.write("b")
			var once sync.Once
			r.intercept(func(cmd string, args []string) error {
				if tt.at(cmd, args) {
					once.Do(func() { move(f[0]) })
				}
				return nil
			})
			require.Equal(t, map[string]int{"a": 1, "b": 1}, getMany(t, f[0], "a", "b"))
		})
	}
}

// C7: what is no entry is a miss of its key, and of no other.
func TestC7BadEntriesInABatch(t *testing.T) {
	t.Parallel()
	r, b := newRedis(t), newBulk()
	f := bulkFleet(t, 2, r, b)
	keys := names("k", 8)
	getMany(t, f[1], keys...)
	field := f[0].schema.Field()
	r.Del(entryOf("k1"))
	require.NoError(t, r.Set(entryOf("k1"), "a string"))
	r.HSet(entryOf("k2"), field, "rubbish")
	r.HSet(entryOf("k3"), field, strings.Repeat("x", 2*DefaultMaxEntryBytes-100)) // read, and then too large
	r.HSet(entryOf("k5"), field, strings.Repeat("x", 4*DefaultMaxEntryBytes))     // ends the connection
	want := map[string]int{}
	for _, key := range keys {
		want[key] = b.write(key)
	}
	for _, key := range []string{"k0", "k4", "k6", "k7"} { // what is still in Redis
		want[key] = 0
	}
	require.Equal(t, want, getMany(t, f[0], keys...))
	require.EqualValues(t, 4, f[0].Stats().BadEntries)
	require.Equal(t, want, getMany(t, f[0], keys...))
	loads := b.loads.Load()
	require.Equal(t, want, getMany(t, bulkInstance(t, r, b), keys...), "they have been replaced")
	require.Equal(t, loads, b.loads.Load())
}

func TestABatchOfManyParts(t *testing.T) {
	t.Parallel()
	r, b := newRedis(t), newBulk()
	c := bulkInstance(t, r, b, func(o *Options[int]) { o.LocalBytes = 64 << 20 })
	r.down() // an embedded Redis takes a millisecond for each script
	eventually(t, "the outage is known", func() bool { return !c.Health().RemoteTrusted })
	keys := names("k", 5*remote.MaxBatch+1)
	require.Len(t, getMany(t, c, keys...), len(keys))
	require.EqualValues(t, 6, c.Stats().Loads)
	for _, call := range b.calls {
		require.LessOrEqual(t, len(call), remote.MaxBatch)
	}
	for key, n := range b.loaded() {
		require.Equal(t, 1, n, key)
	}
}

func TestABulkLoadTakesOneSlotOfMaxLoads(t *testing.T) {
	t.Parallel()
	r, b := newRedis(t), newBulk()
	c := bulkInstance(t, r, b, func(o *Options[int]) { o.MaxLoads = 1 })
	r.down()
	eventually(t, "the outage is known", func() bool { return !c.Health().RemoteTrusted })
	read, letGo := b.holdNextMany()
	defer letGo()
	first := getManyAsync(soon(t), c, "a", "b", "c")
	wait(t, "the load", read)
	second := getManyAsync(soon(t), c, "d", "e")
	eventually(t, "the second has begun", func() bool { return c.flights.underway() == 5 })
	require.EqualValues(t, 1, b.loads.Load())
	letGo()
	require.Len(t, wait(t, "the first", first).vals, 3)
	require.Len(t, wait(t, "the second", second).vals, 2)
	require.Equal(t, map[string]int{"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}, b.loaded())
	require.Len(t, getMany(t, c, "a", "b", "c", "d", "e"), 5)
	require.EqualValues(t, 2, b.loads.Load(), "L1 keeps them")
}

func TestABatchWithoutLeases(t *testing.T) {
	t.Parallel()
	r, b := newRedis(t), newBulk()
	f := bulkFleet(t, 2, r, b, func(o *Options[int]) { o.NoLease = true })
	getMany(t, f[0], "warm")
	count := tripsOf(f[0].bus.data.Client)
	require.Len(t, getMany(t, f[0], "a", "b"), 2)
	singles, pipelines := count.take()
	require.Zero(t, singles)
	require.EqualValues(t, 2, pipelines, "leases and a fill")
	require.Len(t, getMany(t, f[1], "a", "b"), 2)
	require.Equal(t, map[string]int{"warm": 1, "a": 1, "b": 1}, b.loaded())

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
}

// C5: however Redis fails, the loads are made and nothing more is waited for than one RedisTimeout.
func TestC5ABatchWaitsForRedisOnce(t *testing.T) {
	t.Parallel()
	for name, slow := range map[string]func(cmd string, args []string) bool{
		"reads":  func(cmd string, _ []string) bool { return cmd == "HGET" },
		"leases": func(cmd string, args []string) bool { return isScript(cmd, args, 2, 11) },
		"fills":  func(cmd string, args []string) bool { return isScript(cmd, args, 2, 9) },
		"all but heartbeats": func(cmd string, args []string) bool {
			return cmd == "HGET" || isScript(cmd, args, 2, 11) || isScript(cmd, args, 2, 9)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const limit = 2 * time.Second
			r, b := newRedis(t), newBulk()
			c := bulkInstance(t, r, b, func(o *Options[int]) { o.RedisTimeout = limit })
			getMany(t, c, "warm")
			release := make(chan struct{})
			r.intercept(func(cmd string, args []string) error {
				if slow(cmd, args) {
					<-release
				}
				return nil
			})
			// Before the server is closed, which waits for its clients' commands.
			t.Cleanup(sync.OnceFunc(func() { close(release) }))
			began := time.Now()
			require.Len(t, getMany(t, c, names("k", 20)...), 20)
			took := time.Since(began)
			require.GreaterOrEqual(t, took, limit)
			require.Less(t, took, 2*limit)
			require.Equal(t, 1, b.loaded()["k7"])
		})
	}
}

// What Redis says about one key is not held against the others.
func TestAnErrorOfRedisAboutOneKeyOfABatch(t *testing.T) {
	t.Parallel()
	r, b := newRedis(t), newBulk()
	c := bulkInstance(t, r, b)
	r.intercept(func(_ string, args []string) error {
		for _, arg := range args {
			if arg == entryOf("b") {
				return errors.New("ERR not this one")
			}
		}
		return nil
	})
	require.Len(t, getMany(t, c, "a", "b", "c"), 3)
	require.EqualValues(t, 2, c.Stats().Fills)
	require.Equal(t, map[string]int{"a": 1, "b": 1, "c": 1}, b.loaded())
	require.False(t, c.Health().BreakerOpen)
}

// longBudget is one that no busy machine uses up.
func longBudget(c *Cache[int], d time.Duration) *budget {
	return &budget{timeouts: &c.timeouts, total: d, left: d}
}

// startedTogether returns the members of flights that a batch has started, with a budget of Redis that is used up.
func startedTogether(t *testing.T, c *Cache[int], keys ...string) (*group[int], []*member[int]) {
	t.Helper()
	fs := make([]*flight[int], len(keys))
	for i, key := range keys {
		n := &flight[int]{key: key, load: c.opts.Load, byCaller: true, ctx: t.Context(), done: make(chan struct{})}
		f, leads := c.flights.join(n)
		require.True(t, leads)
		fs[i] = f
	}
	used := longBudget(c, patience)
	used.left = 0
	return &group[int]{c: c, ctx: t.Context(), budget: used, open: c.gate.look()}, membersOf(fs)
}

// A part of a batch has what the batch has left of its time for Redis. If that is nothing it goes on with loads, asks Redis
// nothing, and holds nothing against it.
func TestC5APartOfABatchWithoutTimeForRedis(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]struct {
		change func(*bulk, *Options[int])
		from   func(*group[int], []*member[int])
		inL1   bool
	}{
		"before it reads":                {nil, (*group[int]).fetch, true},
		"before it asks for leases":      {nil, (*group[int]).fetchLeased, true},
		"before it fills":                {nil, (*group[int]).loadLeased, true},
		"before it fills, single loader": {func(b *bulk, o *Options[int]) { o.Load, o.LoadMany = b.load, nil }, (*group[int]).loadLeased, true},
		"before it gives leases up":      {func(b *bulk, _ *Options[int]) { b.setErr(errSource) }, (*group[int]).loadLeased, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, b := newRedis(t), newBulk()
			b.write("a")
			b.write("b")
			c := bulkInstance(t, r, b, func(o *Options[int]) {
				if mode.change != nil {
					mode.change(b, o)
				}
			})
			var asked atomic.Int64
			r.intercept(func(cmd string, args []string) error {
				// Scripts' own commands are heard too, also of those that give leases up later.
				if (cmd == "HGET" && args[1] == c.schema.Field()) || isScript(cmd, args, 2, 11) || isScript(cmd, args, 2, 9) {
					asked.Add(1)
				}
				return nil
			})
			g, ms := startedTogether(t, c, "a", "b")
			var wg sync.WaitGroup
			g.part(&wg, ms, mode.from)
			wg.Wait()
			for _, m := range ms {
				v, err := c.await(soon(t), m.flight, false, nil)
				if mode.inL1 {
					require.NoError(t, err)
					require.Equal(t, 1, v)
				} else {
					require.ErrorIs(t, err, errSource)
				}
				require.Equal(t, mode.inL1, c.local.Get(m.key) != nil)
			}
			require.Zero(t, asked.Load())
			require.Zero(t, c.Stats().RedisErrors)
			require.False(t, c.Health().BreakerOpen)
		})
	}
}

// A lease that is lost during the load is noticed when it is renewed, and its value is not kept.
func TestALeaseOfABatchThatIsLost(t *testing.T) {
	t.Parallel()
	r, b := newRedis(t), newBulk()
	c := bulkInstance(t, r, b)
	getMany(t, c, "warm")
	g := &group[int]{c: c, ctx: t.Context(), budget: longBudget(c, patience), open: c.gate.look()}
	var fs []*flight[int]
	for _, key := range []string{"a", "b"} {
		n := &flight[int]{key: key, load: c.opts.Load, byCaller: true, ctx: t.Context(), done: make(chan struct{})}
		f, leads := c.flights.join(n)
		require.True(t, leads)
		fs = append(fs, f)
	}
	ms := membersOf(fs)
	for _, m := range ms {
		m.token = remote.NewToken()
		l, err := c.reads.Acquire(soon(t), m.key, m.token, remote.Wanted, leaseTTL, "inbox")
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

// The flights of a batch are as old as the heartbeat on whose word they read Redis.
func TestABatchIsAsOldAsTheHeartbeatThatItBelieves(t *testing.T) {
	t.Parallel()
	r, b := newRedis(t), newBulk()
	c := bulkInstance(t, r, b)
	eventually(t, "a heartbeat", func() bool { return c.Health().RemoteTrusted })
	n := &flight[int]{key: "a", load: c.opts.Load, byCaller: true, ctx: t.Context(), done: make(chan struct{})}
	c.flights.join(n)
	n.ticket = c.local.Ticket("a") // as if there had been no heartbeat when it began
	began := n.ticket.At()
	c.flyTogether(t.Context(), []*flight[int]{n})
	wait(t, "the flight", n.done)
	require.Less(t, n.ticket.At(), began)
}

func TestKeysErrorIsShort(t *testing.T) {
	t.Parallel()
	var f failures
	require.NoError(t, f.joined())
	for i := range 5 {
		f.add(fmt.Sprint("k", i), errSource)
	}
	f.add("x", incomparable{"y"})
	f.add("z", incomparable{"y"})
	require.EqualError(t, f.joined(), `tiered: "k0", "k1", "k2" and 2 more: the source is down`+"\n"+
		`tiered: "x": [y]`+"\n"+`tiered: "z": [y]`)
}

// incomparable is an error that may not be compared.
type incomparable []string

func (e incomparable) Error() string { return fmt.Sprint([]string(e)) }

// C2 at random: readers in batches and one by one beside a writer on the same instance never go back, and once its write has
// returned never see an older version.
func TestC2BatchesBesideWrites(t *testing.T) {
	t.Parallel()
	r, b := newRedis(t), newBulk()
	c := bulkInstance(t, r, b)
	keys := names("k", 6)
	var floors [6]atomic.Int64
	done := make(chan struct{})
	var wg sync.WaitGroup
	for reader := range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				var least [6]int64
				for i := range keys {
					least[i] = floors[i].Load()
				}
				got := map[string]int{}
				var err error
				if reader == 0 {
					got[keys[0]], err = c.Get(context.Background(), keys[0])
				} else {
					got, err = c.GetMany(context.Background(), keys)
				}
				if err != nil {
					t.Error(err)
					return
				}
				for i, key := range keys {
					if v, ok := got[key]; ok && int64(v) < least[i] {
						t.Errorf("%s: %d after %d", key, v, least[i])
					}
				}
			}
		})
	}
	began := time.Now()
	for n := 0; n < 300 && time.Since(began) < patience/4; n++ {
		i := rand.IntN(len(keys))
		v := b.write(keys[i])
		var err error
		switch n % 3 {
		case 0:
			err = c.Invalidate(context.Background(), keys[i])
		case 1:
			err = c.SetMany(context.Background(), map[string]int{keys[i]: v})
		default:
			err = c.Set(context.Background(), keys[i], v)
		}
		switch {
		case err == nil:
			floors[i].Store(int64(v))
		case !errors.Is(err, ErrPending): // on a busy machine
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
	for key, v := range getMany(t, c, keys...) {
		require.Equal(t, b.version(key), v, key)
	}
}
