package tiered

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errBudget is why a call did not go to Redis: the time for it is used up, or Redis has failed once already.
var errBudget = errors.New("tiered: no time left for Redis")

// budget is what one flight may wait for Redis in all: a Get must cost its load plus at most one RedisTimeout, however many
// trips it makes. After one failure nothing more is tried.
type budget struct {
	total, left time.Duration
}

func newBudget(d time.Duration) *budget { return &budget{total: d, left: d} }

func (b *budget) do(ctx context.Context, call func(context.Context) error) error {
	if b.left <= 0 {
		return errBudget
	}
	// What takes longer than a rest is no outage: Redis may only be slow.
	short := b.left < b.total*3/4
	ctx, cancel := context.WithTimeout(ctx, b.left)
	defer cancel()
	began := time.Now()
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
