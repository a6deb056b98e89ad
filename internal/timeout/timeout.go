// Package timeout makes contexts with a deadline that cost no timer each.
//
// A timer for each call of a microsecond's work is dear beyond its own price: where it is the process's next one, the runtime
// wakes the thread that waits for the network, to have it wait for less.
package timeout

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// grain is how much later than its deadline a context may be done.
const grain = 10 * time.Millisecond

// Group makes contexts. Those whose deadlines are close share a timer, so it is for calls with much the same timeout. The
// zero Group is ready; its methods may be called concurrently.
type Group struct {
	current atomic.Pointer[tick]
	mu      sync.Mutex // held to replace current
}

// tick is the end of a grain.
type tick struct {
	at   time.Time
	done chan struct{}
}

// Context returns a context with parent's values and the deadline at, and a function that the caller calls when it is not
// needed any more. What looks at the deadline, as a socket does, sees at; Done is closed up to 10 ms later.
//
// It is cheap for a parent that cannot be cancelled, and else that of context.WithDeadline.
func (g *Group) Context(parent context.Context, at time.Time) (context.Context, context.CancelFunc) {
	if parent.Done() != nil {
		return context.WithDeadline(parent, at)
	}
	t := g.current.Load()
	if t == nil || at.After(t.at) {
		t = g.replace(at)
	}
	if t.at.Sub(at) > grain { // one of the few with much less time than the last
		return context.WithDeadline(parent, at)
	}
	return &group{Context: parent, deadline: at, done: t.done}, func() {}
}

func (g *Group) replace(at time.Time) *tick {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t := g.current.Load(); t != nil && !at.After(t.at) {
		return t
	}
	t := &tick{at: at.Add(grain), done: make(chan struct{})}
	time.AfterFunc(time.Until(t.at), func() { close(t.done) })
	g.current.Store(t)
	return t
}

// group is one of a Group's contexts.
type group struct {
	context.Context //nolint:containedctx // it is a context
	deadline        time.Time
	done            chan struct{}
}

func (c *group) Deadline() (time.Time, bool) { return c.deadline, true }

func (c *group) Done() <-chan struct{} { return c.done }

// Err is nil until Done is closed, as callers of Context may rely on.
func (c *group) Err() error {
	select {
	case <-c.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}
