package faults

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered"
)

// While Redis is away, the source sees at most MaxLoads loads of this process at once; those who wait obey their contexts.
func TestMaxLoads(t *testing.T) {
	const limit, keys = 4, 60
	srv, s := startRedis(t), newSource(loadTime)
	c := ready(t, srv.Addr(), s, func(o *tiered.Options[value]) { o.MaxLoads = limit })
	require.NoError(t, srv.Kill())
	eventually(t, "the outage is known", func() bool { return c.Health().RedisError != nil })

	var wg sync.WaitGroup
	began := time.Now()
	for i := range keys {
		wg.Go(func() {
			key := fmt.Sprint("k", i)
			if v, err := c.Get(context.Background(), key); err != nil || !v.of(key) {
				t.Errorf("%s: %+v, %v", key, v, err)
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	require.Equal(t, limit, s.busiest())
	require.EqualValues(t, keys, s.loads.Load())

	letGo := s.holdLoads()
	defer letGo()
	for i := range limit {
		wg.Go(func() { _, _ = c.Get(context.Background(), fmt.Sprint("held", i)) })
	}
	eventually(t, "all slots are taken", func() bool { return s.loads.Load() == keys+limit })
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	began = time.Now()
	_, err := c.Get(ctx, "waits")
	waited := time.Since(began)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, waited, slack)
	require.EqualValues(t, keys+limit, s.loads.Load(), "it did not load")
	letGo()
	wg.Wait()
	require.Equal(t, limit, s.busiest())
	t.Logf("%d cold reads at once, %d loads at most: %v; a waiter with 30ms of context left after %v", keys, limit, round(took), round(waited))
}
