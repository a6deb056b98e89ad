package tiered

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tandemcache/tandem/internal/timeout"
)

// errBudget is why a call did not go to Redis: the time for it is used up, or Redis has failed once already.
var errBudget = errors.New("tiered: no time left for Redis")

// budget is what one flight may wait for Redis in all: a Get must cost its load plus at most one RedisTimeout, however many
// trips it makes. After one failure nothing more is tried.
type budget struct {
	timeouts    *timeout.Group
	total, left time.Duration
}

func (c *Cache[V]) newBudget() *budget {
	return &budget{timeouts: &c.timeouts, total: c.opts.RedisTimeout, left: c.opts.RedisTimeout}
}

func (b *budget) do(ctx context.Context, call func(context.Context) error) error {
	if b.left <= 0 {
		return errBudget
	}
	// What takes longer than a rest is no outage: Redis may only be slow.
	short := b.left < b.total*3/4
	began := time.Now()
	ctx, cancel := b.timeouts.Context(ctx, began.Add(b.left))
	defer cancel()
	err := call(ctx)
	b.left -= time.Since(began)
	if err != nil {
		if b.left <= 0 && short {
			err = fmt.Errorf("%w: %w", errBudget, err)
		}
		b.left = 0
	}
	return err
}
