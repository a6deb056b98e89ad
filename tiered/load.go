package tiered

import (
	"context"
	"errors"
	"runtime/debug"
	"time"
)

type loaded[V any] struct {
	val V
	err error
}

// callLoader runs the flight's loader under its contract and returns what it came to.
//
// The loader runs on a goroutine of its own, because one that ignores its context must not hold up those who wait for
// longer than LoadTimeout. What such a loader returns later is dropped.
func (c *Cache[V]) callLoader(f *flight[V]) (V, error) {
	ctx, cancel := c.loadContext(f.ctx)
	defer cancel()
	c.count.loads.Add(1)
	defer c.loadTakes(time.Now())
	result := make(chan loaded[V], 1)
	go c.protect(ctx, f, result)
	select {
	case r := <-result:
		return r.val, c.loadError(ctx, r.err)
	case <-ctx.Done():
		select {
		case r := <-result: // both at once: the loader was in time
			return r.val, c.loadError(ctx, r.err)
		default:
			var zero V
			return zero, c.loadError(ctx, context.Cause(ctx))
		}
	}
}

// loadSlot waits until fewer than MaxLoads loads without a lease are under way: ErrLoadTimeout after LoadTimeout, and
// ErrClosed. Those who wait for the flight leave it when their own contexts end.
func (c *Cache[V]) loadSlot() error {
	if c.slots == nil {
		return nil
	}
	select {
	case c.slots <- struct{}{}:
		return nil
	default:
	}
	c.count.loadsWaiting.Add(1)
	defer c.count.loadsWaiting.Add(-1)
	var late <-chan time.Time
	if c.opts.LoadTimeout > 0 {
		timer := time.NewTimer(c.opts.LoadTimeout)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case c.slots <- struct{}{}:
		return nil
	case <-late:
		return ErrLoadTimeout
	case <-c.ctx.Done():
		return ErrClosed
	}
}

func (c *Cache[V]) freeLoadSlot() {
	if c.slots != nil {
		<-c.slots
	}
}

// loadContext ends after LoadTimeout and when the cache is closed.
func (c *Cache[V]) loadContext(values context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(values)
	stop := context.AfterFunc(c.ctx, func() { cancel(ErrClosed) })
	stopTimer := func() {}
	if c.opts.LoadTimeout > 0 {
		ctx, stopTimer = context.WithTimeoutCause(ctx, c.opts.LoadTimeout, ErrLoadTimeout)
	}
	return ctx, func() {
		stopTimer()
		stop()
		cancel(nil)
	}
}

// loadError names the library's part in an error of the loader.
func (c *Cache[V]) loadError(ctx context.Context, err error) error {
	err = c.nameLoadError(ctx, err)
	if err != nil && !errors.Is(err, ErrNotFound) {
		c.count.loadErrors.Add(1)
	}
	return err
}

func (c *Cache[V]) nameLoadError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, ErrNotFound) || (c.opts.IsNotFound != nil && c.isNotFound(err)) {
		return ErrNotFound
	}
	// A loader that obeys its context returns that context's error: say whose limit it was.
	cause := context.Cause(ctx)
	if cause != nil && errors.Is(err, ctx.Err()) && (errors.Is(cause, ErrLoadTimeout) || errors.Is(cause, ErrClosed)) {
		return cause
	}
	return err
}

// protect calls the loader and sends exactly one result, whether it returns, panics or exits its goroutine.
func (c *Cache[V]) protect(ctx context.Context, f *flight[V], result chan<- loaded[V]) {
	r := loaded[V]{err: ErrLoaderExited}
	defer func() { result <- r }()
	r = c.observed(ctx, f, func(ctx context.Context) loaded[V] { return callLoad(ctx, f) })
}

func callLoad[V any](ctx context.Context, f *flight[V]) (r loaded[V]) {
	defer func() {
		if p := recover(); p != nil {
			r = loaded[V]{err: &PanicError{Value: p, Stack: debug.Stack()}}
		}
	}()
	val, err := f.load(ctx, f.key)
	return loaded[V]{val: val, err: err}
}

// loadTakes counts how long a load has taken.
func (c *Cache[V]) loadTakes(began time.Time) { c.count.loadTime.Add(uint64(time.Since(began))) }
