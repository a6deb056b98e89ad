package tiered

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

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
				onBoth(t, func(t *testing.T, r rig) {
					b := newBulk()
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
					require.Equal(t, writer == 0, r.exists(r.entry("k1")))
					require.True(t, r.exists(r.entry("k0")))
					require.True(t, r.exists(r.entry("k2")))
					for _, c := range f {
						require.Equal(t, map[string]int{"k0": 0, "k1": 1, "k2": 0}, getMany(t, c, "k0", "k1", "k2"))
					}
					require.Equal(t, 1, b.loaded()["k0"])
					require.Equal(t, 1, b.loaded()["k2"])
				})
			})
		}
	}
}

// C4 against L1 alone: Redis takes no part, so nothing but the ticket keeps the old result out.
func TestC4ABulkLoadWithoutRedis(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		b := newBulk()
		c := bulkInstance(t, r, b)
		r.down()
		eventually(t, "the outage is known", func() bool { return away(c) })
		read, letGo := b.holdNextMany()
		defer letGo()
		batch := getManyAsync(soon(t), c, "k0", "k1")
		wait(t, "the load", read)
		b.write("k1")
		require.ErrorIs(t, c.Invalidate(soon(t), "k1"), ErrPending)
		letGo()
		require.Equal(t, map[string]int{"k0": 0, "k1": 0}, wait(t, "the batch", batch).vals)
		require.Equal(t, map[string]int{"k0": 0, "k1": 1}, getMany(t, c, "k0", "k1"))
	})
}

// C4: a new epoch begins during the load.
func TestC4ANewEpochDuringABulkLoad(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		b := newBulk()
		f := bulkFleet(t, 2, r, b)
		read, letGo := b.holdNextMany()
		defer letGo()
		batch := getManyAsync(soon(t), f[0], "k0", "k1")
		wait(t, "the load", read)
		b.write("k0")
		old := map[string]uint64{}
		for _, key := range []string{"k0", "k1"} {
			old[key] = gateOf(f[0], key).look().epoch
		}
		require.NoError(t, f[1].InvalidateAll(soon(t)))
		for key, old := range old {
			eventually(t, "the loader knows the new epoch", func() bool { return gateOf(f[0], key).look().epoch != old })
		}
		letGo()
		require.Equal(t, map[string]int{"k0": 0, "k1": 0}, wait(t, "the batch", batch).vals)
		require.EqualValues(t, 2, f[0].Stats().Refused)
		for _, c := range f {
			require.Equal(t, map[string]int{"k0": 1, "k1": 0}, getMany(t, c, "k0", "k1"))
		}
	})
}

// A key that is written faster than it loads has flights that wait for their turn; a batch has to take such a one as it is.
func TestABatchWithAFlightThatIsQueued(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		b := newBulk()
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
	})
}

// A key whose invalidation Redis has not confirmed is not believed, the others of the batch are.
func TestC6ABatchWithAPendingKey(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		b := newBulk()
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
	})
}

// A server takes over while the batch reads it, or asks it for leases.
func TestABatchDuringAMoveIsNotBelieved(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		at      func(cmd string, args []string) bool
		noLease bool
	}{
		"while it reads":           {func(cmd string, _ []string) bool { return cmd == "HGET" }, false},
		"while it asks for leases": {func(cmd string, args []string) bool { return isScript(cmd, args, 2, 11) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, r rig) {
				b := newBulk()
				f := bulkFleet(t, 2, r, b, func(o *Options[int]) { o.NoLease = tt.noLease })
				getMany(t, f[1], "a", "b")
				getMany(t, f[0], "warm")
				eventually(t, "a heartbeat", func() bool { return f[0].Health().RemoteTrusted })
				b.write("a") // and what invalidated it is lost
				b.write("b")
				var once sync.Once
				r.intercept(func(cmd string, args []string) error {
					if tt.at(cmd, args) {
						once.Do(func() { reportMove(f[0]) })
					}
					return nil
				})
				require.Equal(t, map[string]int{"a": 1, "b": 1}, getMany(t, f[0], "a", "b"))
			})
		})
	}
}

// C7: what is no entry is a miss of its key, and of no other.
func TestC7BadEntriesInABatch(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		b := newBulk()
		f := bulkFleet(t, 2, r, b)
		keys := names("k", 8)
		getMany(t, f[1], keys...)
		field := f[0].schema.Field()
		r.del(r.entry("k1"))
		r.set(r.entry("k1"), "a string")
		r.hset(r.entry("k2"), field, "rubbish")
		r.hset(r.entry("k3"), field, strings.Repeat("x", 2*DefaultMaxEntryBytes-100)) // read, and then too large
		r.hset(r.entry("k5"), field, strings.Repeat("x", 4*DefaultMaxEntryBytes))     // ends the connection
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
	})
}

// The flights of a batch are as old as the heartbeat on whose word they read Redis.
func TestABatchIsAsOldAsTheHeartbeatThatItBelieves(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		b := newBulk()
		c := bulkInstance(t, r, b, func(o *Options[int]) { o.MaxStaleness = time.Minute })
		eventually(t, "a heartbeat", func() bool { return c.Health().RemoteTrusted })
		defer holdBeats(r)() // none is sent after the flight's ticket is taken, and comes before the flight looks
		n := &flight[int]{key: "a", load: c.opts.Load, byCaller: true, ctx: t.Context(), done: make(chan struct{})}
		c.flights.join(n)
		n.ticket = ticketOf(c, "a") // as if there had been no heartbeat when it began
		began := n.ticket.At()
		c.flyPart(t.Context(), c.newBudget(), []*flight[int]{n})
		wait(t, "the flight", n.done)
		require.Less(t, n.ticket.At(), began)
	})
}

// C2 at random: readers in batches and one by one beside a writer on the same instance never go back, and once its write has
// returned never see an older version.
func TestC2BatchesBesideWrites(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		b := newBulk()
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
	})
}
