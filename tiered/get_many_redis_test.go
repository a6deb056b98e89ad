package tiered

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

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
			onBoth(t, func(t *testing.T, r rig) {
				b := newBulk()
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
		})
	}
}

// What Redis says about one key is not held against the others.
func TestAnErrorOfRedisAboutOneKeyOfABatch(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		b := newBulk()
		c := bulkInstance(t, r, b)
		r.intercept(func(_ string, args []string) error {
			for _, arg := range args {
				if arg == r.entry("b") {
					return errors.New("ERR not this one")
				}
			}
			return nil
		})
		require.Len(t, getMany(t, c, "a", "b", "c"), 3)
		require.EqualValues(t, 2, c.Stats().Fills)
		require.Equal(t, map[string]int{"a": 1, "b": 1, "c": 1}, b.loaded())
		require.False(t, c.Health().BreakerOpen)
	})
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
	return groupOf(t.Context(), c, used), membersAt(c, fs)
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
