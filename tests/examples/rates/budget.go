package main

import (
	"context"
	"time"

	"golang.org/x/sync/semaphore"
)

// budget keeps calls within what an API allows: no more than limit arrive there in any window, however long each is on its
// way. For that, a call's slot is free again one window after the call's end, so that two calls of one slot arrive further
// apart. (A limiter that counts when calls start, as golang.org/x/time/rate does, cannot promise it: two that start a window
// apart arrive together if the first is held up.)
//
// Instances with a share of the limit each stay within it together, and need nothing in common that could be away.
type budget struct {
	slots  *semaphore.Weighted
	window time.Duration
}

// newBudget returns a budget that begins used up: the process that ran here a moment ago may have used it.
func newBudget(limit int, window time.Duration) *budget {
	b := &budget{slots: semaphore.NewWeighted(int64(limit)), window: window}
	b.slots.TryAcquire(int64(limit))
	b.free(int64(limit))
	return b
}

// do makes a call as soon as the budget allows one. It returns ctx's error if that ends before.
func (b *budget) do(ctx context.Context, call func() error) error {
	if err := b.slots.Acquire(ctx, 1); err != nil {
		return err
	}
	defer b.free(1)
	return call()
}

func (b *budget) free(n int64) { time.AfterFunc(b.window, func() { b.slots.Release(n) }) }
