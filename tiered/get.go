package tiered

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tandemcache/tandem/remote"
)

// Get returns the value of key: from this process (L1), from Redis (L2), or from Options.Load, which then fills both.
//
// The value is shared with every other caller: do not change what it points to, or set Options.Clone.
//
// It returns ErrNotFound if the source does not have the key, the loader's error as it is if it fails (that is not cached,
// and the next Get loads again), *PanicError, ErrLoaderExited or ErrLoadTimeout if the loader misbehaves, ctx's error if
// ctx ends first (an L1 hit is returned even then), ErrInvalidKey and ErrClosed. What goes wrong in Redis is never an error of
// Get: it costs a load, and Options.RedisTimeout at most.
//
// A deadline of ctx is kept; that ctx is cancelled is noticed, where Redis does not answer, after RedisTimeout at the latest.
//
// Those who share a load obey each its own ctx: the load goes on when the caller who started it has left.
//
// A value past Options.RefreshAfter is returned at once, and refreshed in the background. An expired one is returned only under
// Options.StaleIfError, when the load fails or takes longer than Options.SoftTimeout.
func (c *Cache[V]) Get(ctx context.Context, key string) (V, error) {
	if e, due := c.local.Lookup(key); e != nil {
		if due {
			c.refreshLater(ctx, key, c.opts.Load, 0)
		}
		if e.Absent {
			return e.Value, ErrNotFound
		}
		if c.opts.Clone != nil {
			return c.clone(e.Value)
		}
		return e.Value, nil
	}
	return c.own(c.fetchShared(ctx, question[V]{key: key, load: c.opts.Load}, nil))
}

// GetWith is Get with a loader or a TTL of its own, and tells more. It returns ErrInvalidOption for a TTL that is too short.
func (c *Cache[V]) GetWith(ctx context.Context, key string, opts GetOptions[V]) (V, error) {
	if opts.Stale != nil {
		*opts.Stale = false
	}
	if err := c.checkTTL("GetOptions.TTL", opts.TTL); err != nil {
		var zero V
		return zero, err
	}
	load := opts.Load
	if load == nil {
		load = c.opts.Load
	}
	if e, due := c.local.Lookup(key); e != nil {
		if due {
			c.refreshLater(ctx, key, load, opts.TTL)
		}
		if e.Absent {
			return e.Value, ErrNotFound
		}
		if c.opts.Clone != nil {
			return c.clone(e.Value)
		}
		return e.Value, nil
	}
	return c.own(c.fetchShared(ctx, question[V]{key: key, load: load, ttl: opts.TTL}, opts.Stale))
}

// Refresh loads key from the source now, whatever the tiers hold, replaces it in Redis and in this process, and returns it.
// It takes the load over from an instance that is at it: the value is one that was read after Refresh was called. So of two at
// once the later one's value is stored, if it gets one.
//
// It is for a value that has aged, not for one that is wrong: other instances keep their L1 copy until its LocalTTL. After a
// change in the source use Invalidate. It returns what Get does, and ErrNotFound without a loader.
func (c *Cache[V]) Refresh(ctx context.Context, key string) (V, error) {
	return c.own(c.fetchShared(ctx, question[V]{key: key, load: c.opts.Load, refresh: true}, nil))
}

// question is what a call asks of a flight.
type question[V any] struct {
	key     string
	load    LoadFunc[V]
	ttl     time.Duration
	refresh bool
}

// fetchShared joins the flight that answers q, or starts it, and waits for it. stale, if not nil, is told when the answer is
// an expired value.
func (c *Cache[V]) fetchShared(ctx context.Context, q question[V], stale *bool) (V, error) {
	var zero V
	if err := c.checkCall(q.key); err != nil {
		return zero, err
	}
	if err := ctx.Err(); err != nil {
		return zero, err
	}
	f, leads := c.flights.find(q.key, q.refresh), false
	if f == nil {
		n := &flight[V]{
			key: q.key, load: q.load, ttl: q.ttl, refresh: q.refresh, ctx: context.WithoutCancel(ctx), done: make(chan struct{}),
		}
		c.mayEndEarly(n)
		n.byCaller = c.mayTry(ctx, n)
		f, leads = c.flights.join(n)
	}
	switch {
	case !leads:
		c.count.joined.Add(1)
		c.watch.joined(ctx, &f.joiners)
	case f.byCaller && c.try(f):
		return f.val, f.err
	}
	return c.await(ctx, f, q.refresh, stale)
}

// await waits for a flight's result, for as long as its caller does, or for what stands in. A caller who asks for what the
// source says gets that alone. stale, if not nil, is told when the answer is an expired value.
func (c *Cache[V]) await(ctx context.Context, f *flight[V], source bool, stale *bool) (V, error) {
	early := f.early
	if source {
		early = nil
	}
	for {
		select {
		case <-f.done:
		case <-early:
		case <-ctx.Done():
		case <-c.ctx.Done():
		}
		// Several may have happened at once, before a batch has come to this key: a value that is there goes first.
		select {
		case <-f.done:
			if f.err != nil && f.hard.ok && !source && c.holds(f.key, f.hard) {
				return c.serveStale(f.hard, stale), nil
			}
			return f.val, f.err
		default:
		}
		select {
		case <-early:
			if v, ok := c.softly(f, stale); ok {
				return v, nil
			}
			early = nil
		default:
		}
		var zero V
		switch {
		case c.ctx.Err() != nil:
			return zero, ErrClosed
		case ctx.Err() != nil:
			return zero, ctx.Err()
		}
	}
}

func (c *Cache[V]) checkCall(key string) error {
	if c.closed.Load() {
		return ErrClosed
	}
	return checkKey(key)
}

func checkKey(key string) error {
	if err := remote.CheckKey(key); err != nil {
		return errors.Join(ErrInvalidKey, fmt.Errorf("tiered: %w", err))
	}
	return nil
}
