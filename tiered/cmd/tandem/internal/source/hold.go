package source

import (
	"context"
	"sync"
)

// Hold is a load that has read its row and does not return before it is let go.
type Hold struct {
	// Reached is closed when the load has read the row.
	Reached <-chan struct{}

	reached chan struct{}
	release chan struct{}
	once    sync.Once
}

// Hold holds up the next load of the row.
func (r *Row) Hold() *Hold {
	h := &Hold{reached: make(chan struct{}), release: make(chan struct{})}
	h.Reached = h.reached
	r.held.Store(h)
	return h
}

// Release lets the load go. It may be called more than once.
func (h *Hold) Release() { h.once.Do(func() { close(h.release) }) }

func (h *Hold) wait(ctx context.Context) error {
	close(h.reached)
	select {
	case <-h.release:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
