package tiered

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWritesThatCloseWaitsFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		over, cancel := context.WithCancel(t.Context())
		cancel()
		var u underway
		for range 100 {
			require.True(t, u.ended(over), "there are none, however little time is left")
		}
		synctest.Wait() // for the goroutines of ended, beside whom nothing may begin
		u.begin()
		u.begin()
		require.False(t, u.ended(over))
		u.end()
		require.False(t, u.ended(over), "one is left")

		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		require.False(t, u.ended(short))
		require.Equal(t, time.Second, time.Since(began))
		go func() {
			time.Sleep(time.Second)
			u.end()
		}()
		began = time.Now()
		require.True(t, u.ended(t.Context()))
		require.Equal(t, time.Second, time.Since(began))
	})
}

// A goroutine of the cache that is slow to end uses up Close's time: that is no write.
func TestCloseWithoutTimeLeft(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		c := instance(t, r, newSource(), func(o *Options[int]) { o.CloseTimeout = time.Millisecond })
		require.NoError(t, c.Set(soon(t), "k", 1))
		require.True(t, c.spawn(func() {
			<-c.ctx.Done()
			time.Sleep(20 * time.Millisecond) // more than CloseTimeout
		}))
		require.NoError(t, c.Close())
	})
}
