package tiered

import (
	"context"
	"errors"
	"fmt"

	"github.com/tandemcache/tandem/pubsub"
)

// InvalidateAndWait is Invalidate, and returns nil only when no Get that starts later on any instance returns an older value:
// for a permission that was revoked, or whatever else must not be seen once more.
//
// With Options.Acknowledge it returns as soon as every instance has acknowledged; if one does not, because it has crashed, is
// stopped, cut off or of an older release, after MaxStaleness, which is also what it takes without that option, and for
// MaxStaleness after New or after Redis has failed over.
//
// It returns ErrPending at once if Redis did not confirm the invalidation, ctx's error if that ends while it waits (the
// keys are invalidated then, with what Invalidate promises), and otherwise what Invalidate returns.
func (c *Cache[V]) InvalidateAndWait(ctx context.Context, keys ...string) error {
	err := c.Invalidate(ctx, keys...)
	if errors.Is(err, ErrPending) || errors.Is(err, ErrClosed) || !anyKey(keys) {
		return err
	}
	return errors.Join(err, c.settle(ctx))
}

// settle waits until no instance serves what was invalidated before the call.
func (c *Cache[V]) settle(ctx context.Context) error {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	err := c.bus.hub.Settle(waiting, c.topic, c.opts.RedisTimeout)
	switch {
	case err == nil:
		return nil
	case c.ctx.Err() != nil || errors.Is(err, pubsub.ErrClosed):
		return ErrClosed
	default:
		return fmt.Errorf("tiered: the keys are invalidated, and not every instance has acknowledged: %w", err)
	}
}

func anyKey(keys []string) bool {
	for _, key := range keys {
		if checkKey(key) == nil {
			return true
		}
	}
	return false
}

// resign tells the others that nobody has to wait for this instance.
func (c *Cache[V]) resign() {
	if c.topic.Registry == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), min(c.opts.RedisTimeout, c.opts.CloseTimeout))
	defer cancel()
	c.bus.hub.Resign(ctx, c.topic.Registry)
}
