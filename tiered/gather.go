package tiered

import (
	"context"
	"sync"
	"time"

	"github.com/tandemcache/tandem/pubsub"
)

// maxSent is how many invalidations of a cache are on their way to Redis by themselves.
const maxSent = 2

// gather sends invalidations. Few at once are a script and a message each. While maxSent are on their way further ones wait
// for one of them to end, and are sent together: under a storm Redis runs fewer scripts, and every instance of the fleet gets
// fewer and larger messages, by as much as it is needed.
type gather struct {
	// send changes Redis; its error may be a partialError. It is called on a goroutine of a caller of do, or on one of gather's own.
	send func(ctx context.Context, keys []string) error

	mu      sync.Mutex // protects what follows; never held over a trip
	sent    int        // on their way
	waiting []*invalidation
}

// invalidation is a call that waits to be sent.
type invalidation struct {
	ctx  context.Context //nolint:containedctx // it is a call
	keys []string
	done chan error // has room for the outcome: nobody need be there for it
}

// do sends an invalidation of keys, which fit into one message, and returns its outcome; or ctx's error if it ends first, and
// then it may be sent all the same. ctx has a deadline.
func (g *gather) do(ctx context.Context, keys []string) error {
	g.mu.Lock()
	if g.sent < maxSent {
		g.sent++
		g.mu.Unlock()
		defer g.next()
		return g.send(ctx, keys)
	}
	call := &invalidation{ctx: ctx, keys: keys, done: make(chan error, 1)}
	g.waiting = append(g.waiting, call)
	g.mu.Unlock()
	select {
	case err := <-call.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// next gives the place of a trip that has ended to those who wait, or back.
func (g *gather) next() {
	if calls := g.take(); calls != nil {
		go func() { // the caller has its answer
			for ; calls != nil; calls = g.take() {
				g.together(calls)
			}
		}()
	}
}

// take returns the calls that are sent next: as many as fit into one message. None means that the place is given back.
func (g *gather) take() []*invalidation {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, room := 0, pubsub.NewRoom()
	for n < len(g.waiting) && (room.Take(g.waiting[n].keys) || n == 0) {
		n++
	}
	if n == 0 {
		g.sent--
		g.waiting = nil // what a storm has made it grow to
		return nil
	}
	calls := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	return calls
}

// together sends calls as one, for as long as the most patient of them waits. One whose context has ended is left out and told
// so, and not how the trip has gone: it may not have looked yet, and is to count its keys as pending and repeat them.
func (g *gather) together(calls []*invalidation) {
	var keys []string
	var sent []*invalidation
	var latest time.Time
	values := context.Background() // of one of the calls, for the Observer
	known := make(map[string]struct{})
	for _, call := range calls {
		if err := call.ctx.Err(); err != nil {
			call.done <- err
			continue
		}
		sent = append(sent, call)
		if at, ok := call.ctx.Deadline(); ok && at.After(latest) {
			latest = at
		}
		if keys == nil {
			values = context.WithoutCancel(call.ctx)
		}
		for _, key := range call.keys {
			if _, twice := known[key]; !twice {
				known[key] = struct{}{}
				keys = append(keys, key)
			}
		}
	}
	if len(keys) == 0 {
		return
	}
	ctx, cancel := context.WithDeadline(values, latest)
	defer cancel()
	err := g.send(ctx, keys)
	some := partly(err)
	for _, call := range sent {
		if some != nil {
			own := some.of(call.keys)
			err = own.partial()
		}
		call.done <- err
	}
}

// size returns how many calls wait to be sent.
func (g *gather) size() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting)
}
