package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// However long calls are on their way, no window sees more than the limit.
func TestBudgetOfCallsThatAreHeldUp(t *testing.T) {
	t.Parallel()
	const limit, window, n = 5, time.Second, 500
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(limit, window)
		random := rand.New(rand.NewPCG(1, 2))
		var mu sync.Mutex // protects arrivals and random
		var arrivals []time.Time
		held := func() time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return time.Duration(random.Int64N(int64(2 * window)))
		}
		var calls sync.WaitGroup
		for range n {
			calls.Go(func() {
				_ = b.do(t.Context(), func() error {
					time.Sleep(held())
					mu.Lock()
					arrivals = append(arrivals, time.Now())
					mu.Unlock()
					time.Sleep(held())
					return nil
				})
			})
		}
		calls.Wait()
		require.Len(t, arrivals, n)
		for i := limit; i < n; i++ {
			require.GreaterOrEqual(t, arrivals[i].Sub(arrivals[i-limit]), window)
		}
	})
}

// The budget is used: calls that take no time come at the limit, after a first window that a process before may have used.
func TestBudgetIsUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		b := newBudget(5, time.Second)
		for range 50 {
			require.NoError(t, b.do(t.Context(), func() error { return nil }))
		}
		require.Equal(t, 10*time.Second, time.Since(start))
	})
}

func TestBudgetObeysItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(1, time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, b.do(ctx, func() error { panic("no call") }), context.DeadlineExceeded)
	})
}
