package faults

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/redisserver"
	"github.com/tandemcache/tandem/tiered"
)

const (
	coldKeys = 200
	loadTime = 5 * time.Millisecond
)

// awayFrom are the ways in which a Redis that was there goes away.
var awayFrom = map[string]func(*redisserver.Server) error{
	"refused":    (*redisserver.Server).Kill,
	"blackholed": (*redisserver.Server).Pause,
}

// C5: a Get costs its load plus at most one RedisTimeout, and nothing of Redis once the outage is known. The client given
// to New has go-redis' default options, with which one read of a silent server takes 100 s.
func TestColdReadsWhenRedisGoesAway(t *testing.T) {
	for name, goAway := range awayFrom {
		for _, side := range sides {
			t.Run(name+"/"+side.name, func(t *testing.T) {
				leavesNothing(t)
				srv, s := startRedis(t), newSource(loadTime)
				c := ready(t, srv.Addr(), s)
				readAtOnce(t, c, "warm")
				side.alone()
				require.NoError(t, goAway(srv))
				requireBounded(t, c, side, s)
			})
		}
	}
}

// The same for an instance that has never seen its Redis.
func TestColdReadsWhenRedisWasNeverThere(t *testing.T) {
	for name, goAway := range awayFrom {
		for _, side := range sides {
			t.Run(name+"/"+side.name, func(t *testing.T) {
				leavesNothing(t)
				srv, s := startRedis(t), newSource(loadTime)
				require.NoError(t, goAway(srv))
				side.alone()
				requireBounded(t, instance(t, srv.Addr(), s, &logbook{}), side, s)
			})
		}
	}
	t.Run("backlog full/"+sides[1].name, func(t *testing.T) {
		leavesNothing(t)
		s := newSource(loadTime)
		sides[1].alone()
		requireBounded(t, instance(t, fullBacklog(t), s, &logbook{}), sides[1], s)
	})
}

// side is one way of reading all keys.
type side struct {
	name string
	read func(t *testing.T, c *cache, prefix string) (worst, total time.Duration)
	// alone is what the loads by themselves take.
	alone func() time.Duration
}

var sides = []side{
	{"one by one", readInTurn, sync.OnceValue(func() time.Duration {
		s, began := newSource(loadTime), time.Now()
		for range coldKeys {
			_, _ = s.load(context.Background(), "alone")
		}
		return time.Since(began)
	})},
	{"at once", readAtOnce, sync.OnceValue(func() time.Duration {
		s, began := newSource(loadTime), time.Now()
		var wg sync.WaitGroup
		for range coldKeys {
			wg.Go(func() { _, _ = s.load(context.Background(), "alone") })
		}
		wg.Wait()
		return time.Since(began)
	})},
}

func readInTurn(t *testing.T, c *cache, prefix string) (worst, total time.Duration) {
	t.Helper()
	began := time.Now()
	for i := range coldKeys {
		start := time.Now()
		get(t, c, fmt.Sprint(prefix, i))
		worst = max(worst, time.Since(start))
	}
	return worst, time.Since(began)
}

func readAtOnce(t *testing.T, c *cache, prefix string) (worst, total time.Duration) {
	t.Helper()
	var longest most
	var wg sync.WaitGroup
	began := time.Now()
	for i := range coldKeys {
		wg.Go(func() {
			start, key := time.Now(), fmt.Sprint(prefix, i)
			if v, err := c.Get(context.Background(), key); err != nil || !v.of(key) {
				t.Errorf("%s: %+v, %v", key, v, err)
			}
			longest.note(time.Since(start))
		})
	}
	wg.Wait()
	return longest.get(), time.Since(began)
}

// requireBounded reads cold keys three times. The first time the outage may have to be found out; by the second a heartbeat
// has failed, and from there on they cost the loads alone, and leave nothing behind.
func requireBounded(t *testing.T, c *cache, how side, s *source) {
	t.Helper()
	alone, loads := how.alone(), s.loads.Load()
	worst1, total1 := how.read(t, c, "first:")
	eventually(t, "the outage is known", func() bool { return !c.Health().RemoteTrusted && c.Health().RedisError != nil })
	after1 := measure()
	worst2, total2 := readAtOnce(t, c, "second:")
	_, _ = readAtOnce(t, c, "third:")
	// What dials under way may add is theirs to bound, and not a share of each call.
	allowed := footprint{after1.goroutines + coldKeys/10, after1.sockets + coldKeys/10}
	after3 := least(t, allowed)
	t.Logf("%d cold reads, loads alone %v: first %v in all, worst %v; then at once %v in all, worst %v; goroutines %d then %d, sockets %d then %d",
		coldKeys, round(alone), round(total1), round(worst1), round(total2), round(worst2),
		after1.goroutines, after3.goroutines, after1.sockets, after3.sockets)
	const heartbeat = 1200 * time.Millisecond // three intervals of the default MaxStaleness: how long one may take to fail
	require.Less(t, worst1, loadTime+tiered.DefaultRedisTimeout+slack)
	require.Less(t, worst2, loadTime+slack)
	require.Less(t, total1, 3*alone+heartbeat+tiered.DefaultRedisTimeout+slack)
	require.Less(t, total2, loadTime+slack)
	require.EqualValues(t, 3*coldKeys, s.loads.Load()-loads, "one load each")
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// A Redis that comes back is used again, and so is L1.
func TestRedisComesBack(t *testing.T) {
	for name, goAway := range awayFrom {
		t.Run(name, func(t *testing.T) {
			srv, s := startRedis(t), newSource(0)
			require.NoError(t, goAway(srv))
			c := instance(t, srv.Addr(), s, &logbook{})
			require.Zero(t, get(t, c, "early"))
			back := srv.Restart
			if name == "blackholed" {
				back = srv.Resume
			}
			require.NoError(t, back())
			took := trusted(t, c)
			began := time.Now()
			kept(t, c, client(t, srv.Addr()), "late")
			require.Less(t, time.Since(began), slack)
			t.Logf("trusted %v after Redis came back", round(took))
		})
	}
}

// A loader's own slowness is not Redis' bound, and a caller's context is the caller's bound whatever Redis does.
func TestACallersContextBoundsItsWait(t *testing.T) {
	srv, s := startRedis(t), newSource(0)
	c := ready(t, srv.Addr(), s)
	require.NoError(t, srv.Pause())
	const limit = 20 * time.Millisecond
	var worst time.Duration
	for i := range 20 {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		began := time.Now()
		_, err := c.Get(ctx, fmt.Sprint("k", i))
		worst = max(worst, time.Since(began))
		if err != nil {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		cancel()
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	require.ErrorIs(t, c.Invalidate(ctx, "k0"), tiered.ErrPending)
	t.Logf("Gets under a context of %v: worst %v; Invalidate %v", limit, round(worst), round(time.Since(began)))
	require.Less(t, worst, limit+slack)
	require.Less(t, time.Since(began), limit+slack)
}

// fullBacklog returns the address of a listener that accepts nothing and has no room left: to a client it is a host that
// does not answer at all.
func fullBacklog(t *testing.T) string {
	t.Helper()
	addr := listenWithoutBacklog(t)
	for range 64 {
		conn, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	require.NotEqual(t, "linux", runtime.GOOS, "Linux fills a listener's backlog")
	t.Skip("this system's listeners always have room")
	return ""
}
