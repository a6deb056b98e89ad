package tiered

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func refreshAsync(t *testing.T, c *Cache[int], key string) <-chan result {
	t.Helper()
	ctx := soon(t)
	return async(func() (int, error) { return c.Refresh(ctx, key) })
}

func storesZeros(o *Options[int]) {
	o.TTLFor = func(_ string, v int) time.Duration { return time.Duration(min(v, 1) * Off) }
}

// What Refresh returns and cannot store has still replaced what is stored.
func TestRefreshOfWhatIsNotStored(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		f := fleet(t, 2, r, s, storesZeros)
		for _, c := range f {
			require.Equal(t, 0, get(t, c, "k"))
		}
		s.write("k")
		v, err := f[0].Refresh(soon(t), "k")
		require.NoError(t, err)
		require.Equal(t, 1, v)
		require.Nil(t, f[0].local.Get("k"), "at once")
		eventually(t, "nobody has the old value", func() bool { return !r.exists(r.entry("k")) && get(t, f[1], "k") == 1 })
		require.Equal(t, 1, get(t, f[0], "k"))
	})
}

// The same without Redis.
func TestRefreshAloneOfWhatIsNotStored(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	c := instance(t, r, s, storesZeros, func(o *Options[int]) { o.MaxStaleness, o.TTL = time.Hour, time.Hour })
	r.down()
	eventually(t, "the outage is known", func() bool { return away(c) })
	require.Equal(t, 0, get(t, c, "k"))
	require.NotNil(t, c.local.Get("k"))
	s.write("k")
	v, err := c.Refresh(soon(t), "k")
	require.NoError(t, err)
	require.Equal(t, 1, v)
	require.Nil(t, c.local.Get("k"))
}

// A Refresh whose load another Refresh has taken over stores nothing, but it has told of a newer value than L1's.
func TestARefreshThatIsTakenOver(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		f := fleet(t, 2, r, s)
		require.Equal(t, 0, get(t, f[0], "k"))
		s.write("k")
		read, letGo := s.holdNext()
		defer letGo()
		first := refreshAsync(t, f[0], "k")
		wait(t, "the first", read)
		s.setErr(errSource)
		_, err := f[1].Refresh(soon(t), "k")
		require.ErrorIs(t, err, errSource)
		letGo()
		require.Equal(t, result{val: 1}, wait(t, "the first", first))
		require.Nil(t, f[0].local.Get("k"))
	})
}

// A Get that is queued is content with what Redis has. Who joins it by Refresh is not.
func TestRefreshOfAKeyWhoseGetIsQueued(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		gate := make(chan struct{})
		var running atomic.Int64
		c := instance(t, r, s, with(func(ctx context.Context, key string) (int, error) {
			v, err := s.load(ctx, key)
			if running.Add(1) <= maxRunning {
				<-gate
			}
			return v, err
		}))
		other := instance(t, r, s)
		var all []<-chan result
		for i := range maxRunning {
			all = append(all, getAsync(soon(t), c, "k"))
			eventually(t, "it loads", func() bool { return running.Load() == int64(i+1) })
			require.NoError(t, c.Invalidate(soon(t), "k"))
		}
		queued := getAsync(soon(t), c, "k")
		eventually(t, "it is queued", func() bool {
			f := c.flights.newest("k")
			return f != nil && !f.started
		})
		s.write("k")
		require.Equal(t, 1, get(t, other, "k"))
		s.write("k") // nobody is told: Refresh is for that
		joined := c.Stats().Joined
		refresh := refreshAsync(t, c, "k")
		eventually(t, "it has joined", func() bool { return c.Stats().Joined > joined })
		close(gate)
		require.Equal(t, result{val: 2}, wait(t, "Refresh", refresh))
		require.Equal(t, result{val: 2}, wait(t, "the Get that was queued", queued))
		for _, ch := range all {
			require.Equal(t, result{val: 0}, wait(t, "those before", ch))
		}
	})
}
