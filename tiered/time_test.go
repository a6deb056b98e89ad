package tiered

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// bubble runs a test in fake time with a Redis inside the bubble: an hour takes no time, and what happens at which moment
// is exact.
func bubble(t *testing.T, test func(t *testing.T, world *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{source: newSource()}
		w.redis = miniredis.NewMiniRedis()
		w.redis.ClockTTL(true)
		w.rdb = redis.NewClient(&redis.Options{
			Addr: "127.0.0.1:6379", // a name would be looked up, which does not work in a bubble
			Dialer: func(context.Context, string, string) (net.Conn, error) {
				if w.cut.Load() {
					return nil, errors.New("cut off")
				}
				return w.redis.Dial()
			},
		})
		defer func() { // also after a failure: a bubble must not be left with goroutines in it
			for _, c := range w.caches {
				if err := c.Close(); !t.Failed() {
					require.NoError(t, err)
				}
			}
			require.NoError(t, w.rdb.Close())
			w.redis.Close()
		}()
		test(t, w)
	})
}

type world struct {
	redis  *miniredis.Miniredis
	rdb    *redis.Client
	source *source
	caches []*Cache[int]
	cut    atomic.Bool
}

func (w *world) instance(t *testing.T, change ...func(*Options[int])) *Cache[int] {
	t.Helper()
	opts := Options[int]{Load: w.source.load, Jitter: Off, LocalBytes: 1 << 20, Logger: quietLog()}
	for _, f := range change {
		f(&opts)
	}
	c, err := New(w.rdb, "things", opts)
	require.NoError(t, err)
	require.NoError(t, c.Ready(t.Context()))
	synctest.Wait()
	w.caches = append(w.caches, c)
	return c
}

// refuse is a PreHook that ends every connection.
func refuse(p *server.Peer, _ string, _ ...string) bool {
	p.Close()
	return true
}

func TestTimeTTLs(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t)
		loads := func() int64 { get(t, c, "k"); return w.source.loads.Load() }
		require.EqualValues(t, 1, loads())

		time.Sleep(DefaultLocalTTL - time.Second)
		require.EqualValues(t, 1, loads())
		require.EqualValues(t, 1, c.Stats().LocalHits, "still in L1")
		time.Sleep(time.Second + time.Millisecond)
		require.EqualValues(t, 1, loads())
		require.EqualValues(t, 1, c.Stats().RemoteHits, "past LocalTTL it comes from Redis")

		time.Sleep(DefaultTTL - DefaultLocalTTL - 10*time.Second)
		require.EqualValues(t, 1, loads(), "shortly before the TTL")
		time.Sleep(10 * time.Second)
		require.EqualValues(t, 2, loads(), "past the TTL: L1 had it for the rest of its life in Redis and not longer")
	})
}

func TestTimeNotFound(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		w.source.missing["k"] = true
		c := w.instance(t)
		ask := func() int64 {
			_, err := c.Get(t.Context(), "k")
			require.ErrorIs(t, err, ErrNotFound)
			return w.source.loads.Load()
		}
		require.EqualValues(t, 1, ask())
		time.Sleep(DefaultNotFoundTTL - 5*time.Millisecond)
		require.EqualValues(t, 1, ask())
		time.Sleep(10 * time.Millisecond)
		require.EqualValues(t, 2, ask())
	})
}

// A holder that lives renews its lease, so a load longer than the lease's TTL is still one load; those who wait give up
// after LeaseWait and load by themselves.
func TestTimeALongLoad(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		holder := w.instance(t, func(o *Options[int]) { o.Load = slowly(w.source.load, 8*time.Second) })
		patient := w.instance(t, func(o *Options[int]) { o.LeaseWait = time.Minute })
		impatient := w.instance(t, func(o *Options[int]) { o.LocalTTL = Off })

		var wg sync.WaitGroup
		began := time.Now()
		wg.Go(func() { require.Equal(t, 0, get(t, holder, "k")) })
		time.Sleep(100 * time.Millisecond)
		wg.Go(func() {
			require.Equal(t, 0, get(t, patient, "k"))
			require.Equal(t, 8*time.Second, time.Since(began).Round(10*time.Millisecond), "told at once")
		})
		require.Equal(t, 0, get(t, impatient, "k"))
		require.InDelta(t, DefaultLeaseWait, time.Since(began), float64(200*time.Millisecond))
		require.Zero(t, impatient.Stats().Fills, "it stores nothing")
		wg.Wait()
		require.Zero(t, patient.Stats().Loads)
		require.EqualValues(t, 1, holder.Stats().Fills)
	})
}

// A lease that is found lost while the load goes on: Redis need not be asked whether it takes the value, and L1 does not.
func TestTimeALostLease(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t, func(o *Options[int]) {
			o.Load = func(ctx context.Context, key string) (int, error) {
				w.redis.Del(entryOf(key)) // and nobody is told
				time.Sleep(leaseTTL/3 + time.Millisecond)
				return w.source.load(ctx, key)
			}
		})
		w.redis.Server().SetPreHook(func(peer *server.Peer, cmd string, args ...string) bool {
			if isScript(cmd, args, 2, 9) { // the fill; without an answer L1 could have what it has not
				peer.WriteError("ERR not now")
				return true
			}
			return false
		})
		require.Equal(t, 0, get(t, c, "k"))
		w.redis.Server().SetPreHook(nil)
		require.Nil(t, c.local.Get("k"))
		require.EqualValues(t, 1, c.Stats().Refused)
	})
}

// C5: a renewal to which Redis does not answer does not hold up what the loader returns.
func TestTimeARenewalWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		const loading = leaseTTL/3 + 10*time.Millisecond
		silent, answers := atomic.Bool{}, make(chan struct{})
		c := w.instance(t, func(o *Options[int]) {
			o.Load = func(ctx context.Context, key string) (int, error) {
				silent.Store(true)
				time.Sleep(loading)
				return w.source.load(ctx, key)
			}
		})
		w.redis.Server().SetPreHook(func(_ *server.Peer, cmd string, _ ...string) bool {
			if silent.Load() && (cmd == "EVALSHA" || cmd == "EVAL") {
				<-answers
			}
			return false
		})
		began := time.Now()
		require.Equal(t, 0, get(t, c, "k"))
		require.LessOrEqual(t, time.Since(began), loading+DefaultRedisTimeout)
		w.redis.Server().SetPreHook(nil)
		close(answers)
	})
}

// Who waits for another's load asks again and again. That is LeaseWait's to bound: it leaves RedisTimeout for what comes after.
func TestTimeAskingForALease(t *testing.T) {
	t.Parallel()
	for name, get := range map[string]func(testing.TB, *Cache[int], string) int{
		"Get":     get,
		"GetMany": func(t testing.TB, c *Cache[int], key string) int { return getMany(t, c, key)[key] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, w *world) {
				long := func(o *Options[int]) { o.LeaseWait, o.LoadTimeout = time.Minute, time.Minute }
				holder := w.instance(t, long, func(o *Options[int]) { o.Load = slowly(w.source.load, 8*time.Second) })
				waiter := w.instance(t, long)
				time.Sleep(time.Second) // the first heartbeats are over
				w.redis.Server().SetPreHook(func(_ *server.Peer, cmd string, args ...string) bool {
					if isScript(cmd, args, 2, 11) {
						time.Sleep(DefaultRedisTimeout / 5)
					}
					return false
				})
				var wg sync.WaitGroup
				wg.Go(func() { require.Equal(t, 0, get(t, holder, "k")) })
				time.Sleep(time.Second)
				require.Equal(t, 0, get(t, waiter, "k"))
				wg.Wait()
				w.redis.Server().SetPreHook(nil)
				require.Greater(t, waiter.Stats().LeaseWaits, uint64(8))
				require.EqualValues(t, 1, w.source.loads.Load())
			})
		})
	}
}

func slowly(load LoadFunc[int], d time.Duration) LoadFunc[int] {
	return func(ctx context.Context, key string) (int, error) {
		v, err := load(ctx, key)
		time.Sleep(d)
		return v, err
	}
}

// A holder that died is waited for until its lease's TTL and not longer.
func TestTimeADeadHolder(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t, func(o *Options[int]) { o.LeaseWait = time.Minute })
		_, err := readsOf(c, "k").Acquire(t.Context(), "k", "0123456789abcdef0123456789abcdef", "", leaseTTL, "nobody")
		require.NoError(t, err)
		began := time.Now()
		require.Equal(t, 0, get(t, c, "k"))
		require.InDelta(t, leaseTTL, time.Since(began), float64(maxPoll+maxPoll/2))
		require.EqualValues(t, 1, c.Stats().Fills, "and then the lease is taken over")
	})
}

// Nothing is heard and nothing can be proven: what L1 holds ends MaxStaleness after its last proof, at the latest.
func TestTimeACutOffInstance(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t, func(o *Options[int]) { o.TTL, o.LocalTTL = time.Hour, time.Hour })
		get(t, c, "k")
		time.Sleep(30 * time.Minute)
		get(t, c, "k")
		require.EqualValues(t, 1, w.source.loads.Load())
		require.EqualValues(t, 1, c.Stats().LocalHits)

		w.cut.Store(true)
		deafen(c, "k") // deaf, and nobody tells it
		w.source.write("k")
		time.Sleep(DefaultMaxStaleness + time.Millisecond)
		w.redis.Del("tandem:{things}:k:k")
		require.Equal(t, 1, get(t, c, "k"))
	})
}

func TestTimeRepetitionsBackOff(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t)
		w.redis.SetError("LOADING Redis is loading the dataset in memory")
		time.Sleep(DefaultMaxStaleness)
		before := c.Stats().Commands
		require.ErrorIs(t, c.Invalidate(t.Context(), "k"), ErrPending)
		time.Sleep(time.Minute)
		tries := c.Stats().Commands - before
		require.Greater(t, tries, uint64(30))
		require.Less(t, tries, uint64(200))
		w.redis.SetError("")
		time.Sleep(maxRetry + time.Second)
		require.Zero(t, c.Health().PendingKeys)
		require.True(t, c.Health().RemoteTrusted)
	})
}
