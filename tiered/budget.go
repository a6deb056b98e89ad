package tiered

import (
	"context"
	"errors"
	"time"
)

// errBudget is why a call did not go to Redis: the time for it is used up, or Redis has failed once already.
var errBudget = errors.New("tiered: no time left for Redis")

// budget is what one flight may wait for Redis in all: a Get must cost its load plus at most one RedisTimeout, however many
// trips it makes. After one failure nothing more is tried.
type budget struct{ left time.Duration }

func (b *budget) do(ctx context.Context, call func(context.Context) error) error {
	if b.left <= 0 {
		return errBudget
	}
	ctx, cancel := context.WithTimeout(ctx, b.left)
	defer cancel()
	began := time.Now()
	err := call(ctx)
	b.left -= time.Since(began)
	if err != nil {
		b.left = 0
	}
	return err
}
