package tiered

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

type (
	// tripFunc makes one trip to a node, for what it has of a change.
	tripFunc func(n *node, shares []share)
	// unsentFunc takes note of why it is not known where a part is.
	unsentFunc func(s share, err error)
)

// toNodes makes a trip to every node that some of shares are on, at once. Those whose node is not known yet are waited for, as long as a
// change may take, and the others do not wait with them: a caller's time would be over for all. Both functions are
// called concurrently.
func (c *Cache[V]) toNodes(ctx context.Context, shares []share, trip tripFunc, unsent unsentFunc) {
	known := make(map[*node][]share, 1)
	var unknown []share
	for _, s := range shares {
		if n := s.home.Load(); n != nil {
			known[n] = append(known[n], s)
			continue
		}
		unknown = append(unknown, s)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	if len(unknown) > 0 {
		wg.Go(func() { each(c.findNodes(ctx, unknown, unsent), trip) })
	}
	each(known, trip)
}

// findNodes returns the nodes of shares that have none yet.
func (c *Cache[V]) findNodes(ctx context.Context, shares []share, unsent unsentFunc) map[*node][]share {
	ctx, cancel := context.WithTimeout(ctx, c.opts.RedisTimeout)
	defer cancel()
	nodes := make(map[*node][]share)
	for _, s := range shares {
		n, err := s.nodeFor(ctx)
		if err != nil {
			unsent(s, err)
			continue
		}
		nodes[n] = append(nodes[n], s)
	}
	return nodes
}

// each calls f for every node, at once.
func each(nodes map[*node][]share, f tripFunc) {
	if len(nodes) == 1 {
		for n, shares := range nodes {
			f(n, shares)
		}
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for n, shares := range nodes {
		wg.Go(func() { f(n, shares) })
	}
}

// sendFunc makes one trip to a node for some parts, with what their journals have begun, and returns an error for each.
type sendFunc func(ctx context.Context, n *node, shares []share, moves []uint64) []error

// change sends something that concerns whole parts to their nodes, one trip to each, and returns the parts of which it is not
// confirmed, with why.
func (c *Cache[V]) change(ctx context.Context, parts []*part, send sendFunc) (failed map[*part]error) {
	failed = make(map[*part]error)
	var mu sync.Mutex // protects failed
	fail := func(s share, err error) {
		mu.Lock()
		defer mu.Unlock()
		failed[s.part] = err
	}
	c.toNodes(ctx, whole(parts), func(n *node, shares []share) {
		ctx, cancel := context.WithTimeout(ctx, c.opts.RedisTimeout)
		defer cancel()
		sent, moves, moved := startAll(n, shares)
		var errs []error
		if len(sent) > 0 {
			errs = send(ctx, n, sent, moves)
		}
		for _, s := range moved {
			fail(s, errMoved)
		}
		for i, s := range sent {
			if errs[i] != nil {
				fail(s, errs[i])
			}
		}
	}, fail)
	return failed
}

// startAll is part.start of each of shares. Those that have moved are not to be sent.
func startAll(n *node, shares []share) (sent []share, moves []uint64, moved []share) {
	for _, s := range shares {
		m, err := s.start(n)
		if err != nil {
			moved = append(moved, s)
			continue
		}
		sent, moves = append(sent, s), append(moves, m)
	}
	return sent, moves, moved
}

// pendingParts says that a change is left to the background in some parts, with one of the reasons.
func pendingParts(what string, failed map[*part]error) error {
	for _, err := range failed {
		if len(failed) > 1 {
			what = fmt.Sprintf("%s, in %d partitions", what, len(failed))
		}
		return pendingError(what, err)
	}
	return nil
}

// partialError is why some of the keys of a trip were not taken; the others were.
type partialError struct{ failed failures }

func (e *partialError) Error() string { return e.failed.joined().Error() }

// partly returns err if it is about some of the keys.
func partly(err error) *partialError {
	if err == nil {
		return nil
	}
	var some *partialError
	errors.As(err, &some)
	return some
}

// of returns what the error says about keys.
func (e *partialError) of(keys []string) (own failures) {
	asked := make(map[string]struct{}, len(keys))
	for _, key := range keys {
		asked[key] = struct{}{}
	}
	for _, one := range e.failed.all {
		for _, key := range one.Keys {
			if _, ok := asked[key]; ok {
				own.add(key, one.Err)
			}
		}
	}
	return own
}
