package tiered

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tandemcache/tandem/pubsub"
)

const (
	firstRetry = 20 * time.Millisecond
	maxRetry   = time.Second
)

// retryLoop repeats the pending invalidations until Redis has taken them, or the cache is closed.
func (c *Cache[V]) retryLoop() {
	backoff, failing := firstRetry, false
	for {
		b, wait, some := c.pending.next(time.Now(), pubsub.MaxKeys)
		switch {
		case !some:
			if failing {
				c.reportRepeated()
				failing = false
			}
			if !c.pause(0) {
				return
			}
			continue
		case wait > 0:
			if !c.pause(wait) {
				return
			}
			continue
		}
		if err := c.retry(c.ctx, b); err != nil {
			if !c.pause(backoff/2 + rand.N(backoff/2)) {
				return
			}
			backoff, failing = min(2*backoff, maxRetry), true
			continue
		}
		backoff = firstRetry
	}
}

// pause waits for d (zero: for as long as it takes), for something to become pending, or for Redis to come back. It reports
// false when the cache is closed.
func (c *Cache[V]) pause(d time.Duration) bool {
	var timer <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		timer = t.C
		// Something new does not cut a wait short: what failed a moment ago would fail again at once.
		select {
		case <-timer:
		case <-c.redisBack:
		case <-c.ctx.Done():
			return false
		}
		return true
	}
	select {
	case <-c.pending.wake:
	case <-c.ctx.Done():
		return false
	}
	return true
}

// retry repeats one batch. The entries were evicted when the call failed; evicting again after Redis has taken it is the
// second eviction of an ordinary Invalidate.
func (c *Cache[V]) retry(ctx context.Context, b batch) error {
	if b.all {
		if err := c.invalidateAllRemote(ctx); err != nil {
			return err
		}
		c.flushOwn()
		c.pending.confirm(b)
		return nil
	}
	for _, part := range pubsub.Batches(b.keys) {
		if err := c.invalidateRemote(ctx, part); err != nil {
			return err
		}
		c.evict(part...)
		c.pending.confirm(batch{keys: part, seq: b.seq})
	}
	for _, part := range pubsub.Batches(b.tags) {
		if err := c.invalidateTagsRemote(ctx, part); err != nil {
			return err
		}
		c.local.EvictTags(part...)
		c.pending.confirm(batch{tags: part, seq: b.seq})
	}
	return nil
}

// drainAll waits for the writes that are on their way, which may fail, and then tries once more.
func (c *Cache[V]) drainAll(ctx context.Context) error {
	if !hasEnded(ctx, &c.writing) {
		return errors.Join(fmt.Errorf("%w: Close: a write of cache %s is still on its way", ErrPending, c.name), c.drain(ctx))
	}
	return c.drain(ctx)
}

// drain tries once more at Close, as long as ctx allows, and says what is left.
func (c *Cache[V]) drain(ctx context.Context) error {
	for {
		b, wait, some := c.pending.next(time.Now(), pubsub.MaxKeys)
		if !some {
			return nil
		}
		var err error
		if wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				err = ctx.Err()
			}
			timer.Stop()
		} else {
			err = c.retry(ctx, b)
		}
		if err != nil {
			keys, all := c.pending.size()
			if all {
				return fmt.Errorf("%w: Close: everything of cache %s: %w", ErrPending, c.name, err)
			}
			return fmt.Errorf("%w: Close: %d keys and tags of cache %s: %w", ErrPending, keys, c.name, err)
		}
	}
}
