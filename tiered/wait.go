package tiered

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

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
	valid := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return checkKey(key) != nil })
	if errors.Is(err, ErrPending) || errors.Is(err, ErrClosed) || len(valid) == 0 {
		return err
	}
	return errors.Join(err, c.settle(ctx, valid))
}

// settle waits until no instance serves what was invalidated of keys before the call.
func (c *Cache[V]) settle(ctx context.Context, keys []string) error {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	shares := c.byPart(keys)
	errs := make([]error, len(shares))
	var wg sync.WaitGroup
	for i, s := range shares {
		wg.Go(func() { errs[i] = c.bus.hub.Settle(waiting, s.topic, c.opts.RedisTimeout) })
	}
	wg.Wait()
	switch err := errors.Join(errs...); {
	case err == nil:
		return nil
	case c.ctx.Err() != nil || errors.Is(err, pubsub.ErrClosed):
		return ErrClosed
	default:
		return fmt.Errorf("tiered: the keys are invalidated, and not every instance has acknowledged: %w", cmp.Or(errs...))
	}
}

// resign tells the others that nobody has to wait for this instance.
func (c *Cache[V]) resign() {
	if !c.opts.Acknowledge {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), min(c.opts.RedisTimeout, c.opts.CloseTimeout))
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, p := range c.parts {
		wg.Go(func() { c.bus.hub.Resign(ctx, p.topic) })
	}
}
