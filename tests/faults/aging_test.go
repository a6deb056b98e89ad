package faults

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/confirm"
	"github.com/tandemcache/tandem/tests/redisserver"
	"github.com/tandemcache/tandem/tiered"
)

// agingTime is the age, the TTL and the staleness of these tests.
const agingTime = time.Second

var comeBack = map[string]func(*redisserver.Server) error{
	"refused":    (*redisserver.Server).Restart,
	"blackholed": (*redisserver.Server).Resume,
}

// Without Redis nothing is refreshed: what is due is served for as long as L1 can be trusted, and then each Get loads. Once
// Redis is back, so are refreshes.
func TestRefreshAfterWhenRedisGoesAway(t *testing.T) {
	for name, goAway := range awayFrom {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			srv, s := startRedis(t), newSource(loadTime)
			c := ready(t, srv.Addr(), s, staleness(agingTime), func(o *tiered.Options[value]) { o.RefreshAfter = agingTime })
			trusted(t, c)
			get(t, c, "k")
			before := s.loads.Load()
			s.write("k") // and nobody is told
			time.Sleep(agingTime)
			require.NoError(t, goAway(srv))

			var worst most
			due := 0
			eventually(t, "L1 is not trusted any more", func() bool {
				began, loads := time.Now(), s.loads.Load()
				version := get(t, c, "k")
				worst.note(time.Since(began))
				if version == 0 {
					due++
					require.Equal(t, before, loads, "nothing is loaded in the background")
				}
				return version == 1
			})
			require.Less(t, worst.get(), loadTime+tiered.DefaultRedisTimeout+slack)
			require.Zero(t, c.Stats().Refreshes)

			require.NoError(t, comeBack[name](srv))
			trusted(t, c)
			admin := client(t, srv.Addr())
			confirm.Within(t, patience, func() error { return c.Invalidate(soon(t), "k") })
			kept(t, c, admin, "k")
			s.write("k")
			// It is counted once it has landed, which readers see before.
			eventually(t, "a refresh", func() bool { return get(t, c, "k") == 2 && c.Stats().Refreshes > 0 })
			t.Logf("%d reads of what was due while Redis was away, slowest read %v", due, round(worst.get()))
		})
	}
}

// With neither Redis nor the source, an expired value stands in for as long as L1 can be trusted, and then the source's error
// is the answer at once. What is invalidated meanwhile does not stand in again, also before Redis knows.
func TestStaleIfErrorWhenRedisGoesAway(t *testing.T) {
	errDown := errors.New("the source is down")
	for name, goAway := range awayFrom {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			srv, s := startRedis(t), newSource(0)
			var down atomic.Bool
			c := ready(t, srv.Addr(), s, staleness(agingTime), func(o *tiered.Options[value]) {
				o.TTL, o.StaleIfError = agingTime, time.Hour
				o.Load = func(ctx context.Context, key string) (value, error) {
					if down.Load() {
						return value{}, errDown
					}
					return s.load(ctx, key)
				}
			})
			trusted(t, c)
			var worst most
			stale := func(key string) bool {
				t.Helper()
				var is bool
				began := time.Now()
				v, err := c.GetWith(context.Background(), key, tiered.GetOptions[value]{Stale: &is})
				worst.note(time.Since(began))
				if err != nil {
					require.ErrorIs(t, err, errDown)
					require.False(t, is)
					return false
				}
				require.True(t, v.of(key))
				return is
			}
			admin := client(t, srv.Addr())
			kept(t, c, admin, "kept")
			kept(t, c, admin, "dropped")
			down.Store(true)
			eventually(t, "both have expired", func() bool { return stale("kept") && stale("dropped") })

			require.NoError(t, goAway(srv))
			eventually(t, "L1 is not trusted any more", func() bool { return !stale("kept") })
			require.ErrorIs(t, c.Invalidate(soon(t), "dropped"), tiered.ErrPending)
			require.False(t, stale("dropped"))
			require.Less(t, worst.get(), tiered.DefaultRedisTimeout+slack)

			require.NoError(t, comeBack[name](srv))
			eventually(t, "Redis is back", func() bool {
				require.False(t, stale("dropped"))
				return healthy(c)
			})
			require.False(t, stale("dropped"))
			if name == "blackholed" { // the other one comes back empty
				eventually(t, "what was not invalidated stands in again", func() bool { return stale("kept") })
			}
			down.Store(false)
			require.Zero(t, get(t, c, "kept"))
			require.Zero(t, get(t, c, "dropped"))
			t.Logf("slowest read %v", round(worst.get()))
		})
	}
}
