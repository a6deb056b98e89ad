package tiered

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestUntrustedTime(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t)
		get(t, c, "k")
		start := c.Stats().Untrusted
		require.Less(t, start, DefaultMaxStaleness, "until the first proof")
		time.Sleep(time.Hour)
		require.Equal(t, start, c.Stats().Untrusted, "heartbeats come back")

		w.cut.Store(true)
		w.redis.Server().SetPreHook(refuse)
		synctest.Wait()
		time.Sleep(time.Minute)
		away := c.Stats().Untrusted - start
		require.InDelta(t, time.Minute, away, float64(2*DefaultMaxStaleness))
		w.redis.Server().SetPreHook(nil)
		w.cut.Store(false)
		time.Sleep(time.Minute)
		back := c.Stats().Untrusted
		require.Less(t, back-away-start, 10*time.Second)
		time.Sleep(time.Minute)
		require.Equal(t, back, c.Stats().Untrusted)

		require.NoError(t, c.Close())
		closed := c.Stats().Untrusted
		time.Sleep(time.Minute)
		require.Equal(t, closed, c.Stats().Untrusted, "nobody asks a cache that is closed")
	})
}

// A proof of a time that is past gives no trust, and takes none that there is.
func TestUntrustedTimeAndLateProofs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUntrusted(time.Second)
		at := u.until
		time.Sleep(10 * time.Second)
		u.prove(at)
		require.Equal(t, 10*time.Second, u.total())
		time.Sleep(time.Second)
		u.prove(at + int64(11*time.Second))
		u.prove(at)
		require.Equal(t, 11*time.Second, u.total())
		time.Sleep(1500 * time.Millisecond)
		require.Equal(t, 11500*time.Millisecond, u.total())
		u.prove(at + int64(12500*time.Millisecond))
		u.drop()
		time.Sleep(time.Second)
		u.stop()
		require.Equal(t, 12500*time.Millisecond, u.total())
	})
}
