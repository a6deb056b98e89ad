package tiered

import (
	"context"
	"sync"
	"sync/atomic"
)

// underway counts the calls on their way that may leave something pending, which Close waits for. Its methods may be called
// concurrently, but begin not beside ended: the cache's lock and stopped see to that.
type underway struct {
	n   atomic.Int64
	all sync.WaitGroup
}

func (u *underway) begin() {
	u.n.Add(1)
	u.all.Add(1)
}

func (u *underway) end() {
	u.n.Add(-1)
	u.all.Done()
}

// ended waits until there are none or ctx ends, and reports whether there are none: also if ctx has ended before, as it may where
// other goroutines were waited for first.
func (u *underway) ended(ctx context.Context) bool {
	none := make(chan struct{})
	go func() {
		defer close(none)
		u.all.Wait()
	}()
	select {
	case <-none:
	case <-ctx.Done():
	}
	return u.n.Load() == 0
}
