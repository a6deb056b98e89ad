package integration

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered"
)

// Two instances read one key for a while, past its refresh age several times over: one load for each age in the fleet, none
// of the readers waits for one, and both see what the source has by then.
func TestOneRefreshForTwoInstances(t *testing.T) {
	const age, loadTime = time.Second, 50 * time.Millisecond
	onBoth(t, func(t *testing.T, r *rig) {
		s := newSource(loadTime)
		f := fleet(t, 2, r, s, func(o *tiered.Options[Value]) {
			o.MaxStaleness, o.RefreshAfter, o.TTL, o.RedisTimeout = age, age, time.Minute, 5*time.Second
		})
		for _, c := range f {
			get(t, c, "k")
		}
		require.EqualValues(t, 1, s.loads.Load())
		version := s.write("k").Version // and nobody is told

		began, loads := time.Now(), s.loads.Load()
		var longest time.Duration
		refreshed := func() uint64 { return f[0].Stats().Refreshes + f[1].Stats().Refreshes }
		eventually(t, "several refreshes", func() bool {
			for _, c := range f {
				start := time.Now()
				get(t, c, "k")
				longest = max(longest, time.Since(start))
			}
			return refreshed() >= 4
		})
		took := time.Since(began)
		n := s.loads.Load() - loads
		st := []tiered.Stats{f[0].Stats(), f[1].Stats()}
		t.Logf("%d loads in %v for an age of %v on 2 instances (refreshes %d and %d), slowest read %v for a load of %v",
			n, took, age, st[0].Refreshes, st[1].Refreshes, longest, loadTime)
		// Jitter and the load's time make an age shorter, by half at most.
		require.LessOrEqual(t, n, int64(took/(age/2))+2)
		eventually(t, "every load but the first was a refresh", func() bool { // which is counted once it has landed
			return f[0].Stats().Loads+f[1].Stats().Loads == 1+refreshed()
		})
		for _, c := range f {
			eventually(t, "both have the source's", func() bool { return get(t, c, "k") == version })
		}
	})
}

// An expired value stands in for a source that is down, on an instance that never had it, until it is invalidated by another.
func TestAStandInForASourceThatIsDown(t *testing.T) {
	const ttl = time.Second
	onBoth(t, func(t *testing.T, r *rig) {
		s := newSource(0)
		var down atomic.Bool
		errDown := errors.New("down")
		f := fleet(t, 2, r, s, func(o *tiered.Options[Value]) {
			load := o.Load
			o.MaxStaleness, o.TTL, o.StaleIfError, o.RedisTimeout = ttl, ttl, time.Hour, 5*time.Second
			o.Load = func(ctx context.Context, key string) (Value, error) {
				if down.Load() {
					return Value{}, errDown
				}
				return load(ctx, key)
			}
		})
		get(t, f[0], "k")
		down.Store(true)
		stale := func() (is bool, err error) {
			_, err = f[1].GetWith(t.Context(), "k", tiered.GetOptions[Value]{Stale: &is})
			return is, err
		}
		eventually(t, "it has expired", func() bool {
			is, err := stale()
			return is && err == nil
		})
		require.NoError(t, f[0].Invalidate(t.Context(), "k"))
		eventually(t, "the other has heard", func() bool { _, err := stale(); return errors.Is(err, errDown) })
		for _, c := range f {
			_, err := c.Get(t.Context(), "k")
			require.ErrorIs(t, err, errDown)
		}
	})
}
