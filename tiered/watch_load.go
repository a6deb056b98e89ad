package tiered

import (
	"context"
	"slices"
	"sync"
	"time"
)

// joiners are the contexts of the calls that wait for a flight which another one has started. Only an Observer wants them.
type joiners struct {
	mu  sync.Mutex // protects what follows
	n   int
	ctx []context.Context //nolint:containedctx // of calls
}

func (j *joiners) add(ctx context.Context) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.n++; len(j.ctx) < maxJoiners {
		j.ctx = append(j.ctx, ctx)
	}
}

func (j *joiners) all() (n int, ctx []context.Context) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.n, slices.Clip(j.ctx)
}

// joined takes note of a caller that waits for a flight.
func (w *watcher) joined(ctx context.Context, j *joiners) {
	if w != nil {
		j.add(ctx)
	}
}

// observed is a call of the flight's loader, with the Observer told before and after it. It is on the loader's goroutine, so
// that an Observer which blocks, or ends the goroutine, is contained as the loader is.
func (c *Cache[V]) observed(ctx context.Context, f *flight[V], call func(context.Context) loaded[V]) loaded[V] {
	w := c.watch
	if w == nil {
		return call(ctx)
	}
	inner := ctx
	w.contain(func() {
		if made := w.to.LoadStarted(ctx, LoadStart{Cache: c.name, Key: f.key}); made != nil {
			inner = made
		}
	})
	began := time.Now()
	r := loaded[V]{err: ErrLoaderExited}
	defer func() { // also where the loader ends its goroutine
		e := LoadEnd{Cache: c.name, Key: f.key, Began: began, Took: time.Since(began), Err: c.nameLoadError(ctx, r.err)}
		e.Waiters, e.Contexts = f.joiners.all()
		w.contain(func() { w.to.LoadEnded(inner, e) })
	}()
	r = call(inner)
	return r
}
