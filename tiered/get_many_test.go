package tiered

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

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

func bulkInstance(t testing.TB, r rig, b *bulk, change ...func(*Options[int])) *Cache[int] {
	t.Helper()
	c := instance(t, r, b.source, append([]func(*Options[int]){b.many}, change...)...)
	// The first heartbeat may have been sent before the subscription was there: until the next one nothing of Redis is kept.
	eventually(t, "nothing is in doubt", func() bool { return keeps(c) })
	return c
}

func bulkFleet(t testing.TB, n int, r rig, b *bulk, change ...func(*Options[int])) []*Cache[int] {
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

// trips counts the round trips of clients, but for heartbeats.
type trips struct{ singles, pipelines atomic.Int64 }

func tripsOf(clients ...*redis.Client) *trips {
	h := &trips{}
	for _, c := range clients {
		c.AddHook(h)
	}
	return h
}

func counts(cmd redis.Cmder) bool {
	words := make([]string, 0, 8)
	for _, arg := range cmd.Args() {
		words = append(words, fmt.Sprint(arg))
	}
	name := strings.ToUpper(words[0])
	return (name == "HGET" || strings.HasPrefix(name, "EVAL")) && !isBeat(name, words[1:])
}

func (h *trips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if counts(cmd) {
			h.singles.Add(1)
		}
		return next(ctx, cmd)
	}
}

func (h *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if counts(cmds[0]) {
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
	onBoth(t, func(t *testing.T, r rig) {
		b := newBulk()
		f := bulkFleet(t, 2, r, b)
		warm := names("warm:", 50)
		getMany(t, f[0], warm...) // the scripts are known
		b.write("a")
		b.write("a")
		b.write("b")
		b.missing["none"] = true
		count := tripsOf(dataOf(f[0])...)

		keys := []string{"a", "b", "none", "a", "c", "none"}
		want := map[string]int{"a": 2, "b": 1, "c": 0}
		require.Equal(t, want, getMany(t, f[0], keys...))
		singles, pipelines := count.take()
		require.Zero(t, singles)
		masters := int64(r.mastersOf("a", "b", "c", "none"))
		require.Equal(t, 3*masters, pipelines, "a read, the leases, a fill")
		b.mu.Lock()
		require.Equal(t, []string{"a", "b", "c", "none"}, b.calls[len(b.calls)-1])
		b.mu.Unlock()

		before := f[0].Stats()
		require.Equal(t, want, getMany(t, f[0], keys...))
		after := f[0].Stats()
		require.Equal(t, before.Commands, after.Commands, "all are in L1")
		require.EqualValues(t, len(keys), after.LocalHits-before.LocalHits)

		loads := b.loads.Load()
		count = tripsOf(dataOf(f[1])...)
		commands := f[1].Stats().Commands
		require.Equal(t, want, getMany(t, f[1], keys...))
		singles, pipelines = count.take()
		require.Zero(t, singles)
		require.Equal(t, masters, pipelines, "all are in Redis")
		require.EqualValues(t, 4, f[1].Stats().Commands-commands)
		require.EqualValues(t, 4, f[1].Stats().RemoteHits)
		_, err := f[1].Get(soon(t), "none")
		require.ErrorIs(t, err, ErrNotFound)
		require.Equal(t, loads, b.loads.Load(), "and so is that one is not found")
		require.False(t, r.exists(r.entry("not asked for")))
		require.Zero(t, f[0].flights.underway())
	})
}

func TestGetManyOfNothing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		b := newBulk()
		c := bulkInstance(t, r, b)
		for _, keys := range [][]string{nil, {}} {
			got, err := c.GetMany(soon(t), keys)
			require.NoError(t, err)
			require.NotNil(t, got)
			require.Empty(t, got)
		}
		require.Zero(t, c.Stats().Commands)
	})
}

func TestGetManyWithASingleLoader(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		var underway, most atomic.Int64
		c := instance(t, r, newSource(), with(func(_ context.Context, key string) (int, error) {
			raise(&most, underway.Add(1))
			defer underway.Add(-1)
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
		require.ElementsMatch(t, keys[201:], keysNamed(t, err))
		require.LessOrEqual(t, most.Load(), int64(loadsAtOnce))
		require.Len(t, getMany(t, c, keys[:200]...), 200)
		require.EqualValues(t, 204, c.Stats().Loads)
		for _, key := range []string{"bad", "panic", "exit"} {
			eventually(t, "the lease of "+key+" is given up", func() bool { return !r.exists(r.entry(key)) })
		}
		require.Zero(t, c.flights.underway())
	})
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
			onBoth(t, func(t *testing.T, r rig) {
				var calls atomic.Int64
				c := instance(t, r, newSource(), func(o *Options[int]) {
					o.LoadTimeout = 2 * time.Second // which the second load has as well
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
				require.False(t, r.exists(r.entry("a")), "the leases are given up, and nothing is stored")
				require.False(t, r.exists(r.entry("b")))

				began := time.Now()
				got, err = c.GetMany(soon(t), []string{"a", "b"})
				require.NoError(t, err)
				require.Equal(t, map[string]int{"a": 1, "b": 2}, got)
				require.Less(t, time.Since(began), DefaultLeaseWait)
			})
		})
	}
}

func TestABulkLoadThatFindsNothing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		b := newBulk()
		b.setErr(fmt.Errorf("no rows: %w", ErrNotFound))
		f := bulkFleet(t, 2, r, b)
		require.Empty(t, getMany(t, f[0], "a", "b"))
		require.Empty(t, getMany(t, f[0], "a", "b"))
		require.Empty(t, getMany(t, f[1], "a", "b"))
		require.EqualValues(t, 1, b.loads.Load())
	})
}

func TestAGetIsALoadManyOfOne(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		b := newBulk()
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
	})
}

func TestGetManyWithoutALoader(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		s.write("there")
		get(t, instance(t, r, s), "there")
		c := instance(t, r, s, with(nil))
		require.Equal(t, map[string]int{"there": 1}, getMany(t, c, "there", "gone"))
		require.False(t, r.exists(r.entry("gone")))
		r.down()
		eventually(t, "the outage is known", func() bool { return away(c) })
		require.Empty(t, getMany(t, c, "gone"))
	})
}

func TestACallerWhoLeavesABatch(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		b := newBulk()
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
	})
}

func TestGetManyOfAClosedCache(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		b := newBulk()
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
	})
}

func TestABatchOfManyParts(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		b := newBulk()
		c := bulkInstance(t, r, b, func(o *Options[int]) { o.LocalBytes = 64 << 20 })
		r.down() // an embedded Redis takes a millisecond for each script
		eventually(t, "the outage is known", func() bool { return away(c) })
		keys := names("k", 5*remote.MaxBatch+1)
		require.Len(t, getMany(t, c, keys...), len(keys))
		require.EqualValues(t, 6, c.Stats().Loads)
		for _, call := range b.calls {
			require.LessOrEqual(t, len(call), remote.MaxBatch)
		}
		for key, n := range b.loaded() {
			require.Equal(t, 1, n, key)
		}
	})
}

func TestABulkLoadTakesOneSlotOfMaxLoads(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		b := newBulk()
		c := bulkInstance(t, r, b, func(o *Options[int]) { o.MaxLoads = 1 })
		r.down()
		eventually(t, "the outage is known", func() bool { return away(c) })
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
		eventually(t, "L1 keeps them", func() bool { // unless a subscription ends in between, which the outage makes it do
			loads := b.loads.Load()
			return len(getMany(t, c, "a", "b", "c", "d", "e")) == 5 && b.loads.Load() == loads
		})
	})
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
