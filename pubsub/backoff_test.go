package pubsub

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBackoff(t *testing.T) {
	t.Parallel()
	var b backoff
	limit := firstBackoff
	for range 20 {
		require.Less(t, b.next(), limit)
		require.Equal(t, limit, b.bound)
		limit = min(2*limit, maxBackoff)
	}
	require.Equal(t, maxBackoff, b.bound)
	b.reset()
	require.Less(t, b.next(), firstBackoff)
	waits := map[time.Duration]bool{}
	for range 100 {
		waits[b.next()] = true
	}
	require.Greater(t, len(waits), 50, "a fleet that was cut off in one moment does not come back in one")
}

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		require.True(t, sleep(t.Context(), time.Hour))
		require.Equal(t, time.Hour, time.Since(began))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.False(t, sleep(ctx, time.Hour))
		require.Equal(t, time.Hour+time.Minute, time.Since(began))
	})
}
