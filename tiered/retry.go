package tiered

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tandemcache/tandem/pubsub"
)

const (
	firstRetry = 20 * time.Millisecond
	maxRetry   = time.Second
)

// repeatLoop has what is pending repeated, on a goroutine for each part that has something: a node that is away holds up its own.
func (c *Cache[V]) repeatLoop() {
	for {
		select {
		case <-c.somePending:
		case <-c.ctx.Done():
			return
		}
		for _, p := range c.parts {
			if p.pending.any.Load() > 0 && p.repeating.CompareAndSwap(false, true) {
				c.spawn(func() { c.repeat(p) })
			}
		}
	}
}

// repeat repeats the pending invalidations of a part until Redis has taken them all, or the cache is closed.
func (c *Cache[V]) repeat(p *part) {
	backoff, failing := firstRetry, false
	for {
		b, wait, some := p.pending.next(time.Now(), pubsub.MaxKeys)
		if !some {
			p.repeating.Store(false)
			// What has come since was told to repeatLoop, which may have found this goroutine at it still.
			if p.pending.any.Load() > 0 && p.repeating.CompareAndSwap(false, true) {
				continue
			}
			if failing {
				c.reportRepeated()
			}
			return
		}
		if wait == 0 {
			err := c.retry(c.ctx, p, b)
			if err == nil {
				backoff = firstRetry
				continue
			}
			if elsewhere(err) {
				c.bus.hub.Kick(p.number)
			}
			wait = backoff/2 + rand.N(backoff/2)
			backoff, failing = min(2*backoff, maxRetry), true
		}
		if !c.pause(p, wait) {
			return
		}
	}
}

// pause waits for d, or for Redis to come back. Something new does not cut a wait short: what failed a moment ago would fail again at
// once. It reports false when the cache is closed.
func (c *Cache[V]) pause(p *part, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.redisBack:
	case <-c.ctx.Done():
		return false
	}
	return true
}

// retry repeats one batch. The entries were evicted when the call failed; evicting again after Redis has taken it is the
// second eviction of an ordinary Invalidate.
func (c *Cache[V]) retry(ctx context.Context, p *part, b batch) error {
	one := []*part{p}
	if b.all {
		if failed := c.invalidateAllRemote(ctx, one); len(failed) > 0 {
			return failed[p]
		}
		c.flushOwn(p)
		p.pending.confirm(b)
		return nil
	}
	for _, keys := range pubsub.Batches(b.keys) {
		n, err := p.nodeFor(ctx)
		if err == nil {
			err = c.gathered(ctx, n, keys)
		}
		if err != nil {
			return err
		}
		c.evict(keys...)
		p.pending.confirm(batch{keys: keys, seq: b.seq})
	}
	for _, tags := range pubsub.Batches(b.tags) {
		if failed := c.invalidateTagsRemote(ctx, one, tags); len(failed) > 0 {
			return failed[p]
		}
		c.local.EvictTags(p.number, tags...)
		p.pending.confirm(batch{tags: tags, seq: b.seq})
	}
	return nil
}

// drainAll waits for the writes that are on their way, which may fail, and then tries once more.
func (c *Cache[V]) drainAll(ctx context.Context) error {
	var errs []error
	if !c.writes.ended(ctx) {
		errs = append(errs, fmt.Errorf("%w: Close: a write of cache %s is still on its way", ErrPending, c.name))
	}
	left := make([]error, len(c.parts))
	var wg sync.WaitGroup
	for i, p := range c.parts {
		if p.pending.any.Load() > 0 {
			wg.Go(func() { left[i] = c.drain(ctx, p) })
		}
	}
	wg.Wait()
	if err := errors.Join(left...); err != nil {
		errs = append(errs, c.undone(left))
	}
	return errors.Join(errs...)
}

// undone says what is pending when the time to try is over, with one of the reasons.
func (c *Cache[V]) undone(reasons []error) error {
	keys, all := c.pendingSize()
	for _, err := range reasons {
		switch {
		case err == nil:
		case all && len(c.parts) == 1:
			return fmt.Errorf("%w: Close: everything of cache %s: %w", ErrPending, c.name, err)
		case all:
			return fmt.Errorf("%w: Close: everything in partitions of cache %s, and %d keys and tags in others: %w", ErrPending, c.name, keys, err)
		default:
			return fmt.Errorf("%w: Close: %d keys and tags of cache %s: %w", ErrPending, keys, c.name, err)
		}
	}
	return nil
}

// drain tries once more at Close, as long as ctx allows, and says why something is left.
func (c *Cache[V]) drain(ctx context.Context, p *part) error {
	for {
		b, wait, some := p.pending.next(time.Now(), pubsub.MaxKeys)
		if !some {
			return nil
		}
		if wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
				continue
			case <-ctx.Done():
				timer.Stop()
				return ctx.Err()
			}
		}
		if err := c.retry(ctx, p, b); err != nil {
			return err
		}
	}
}
