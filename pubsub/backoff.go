package pubsub

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	firstBackoff = 5 * time.Millisecond
	maxBackoff   = time.Second
	// settled is how long a connection must have lasted for the next wait to be short again.
	settled = 100 * time.Millisecond
)

// backoff is the wait before the next attempt. Each is drawn from zero up to a bound that doubles, so that the instances
// of a fleet, whose connections Redis dropped in the same moment, do not all come back in the same moment.
type backoff struct{ bound time.Duration }

func (b *backoff) reset() { b.bound = 0 }

func (b *backoff) next() time.Duration {
	b.bound = min(max(2*b.bound, firstBackoff), maxBackoff)
	return rand.N(b.bound)
}

// sleep waits for d or until ctx ends, and reports whether it waited.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
