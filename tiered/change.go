package tiered

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

type (
	// tripFunc makes one trip to a node, for some of its parts.
	tripFunc func(n *node, parts []*part)
	// unsentFunc takes note of why it is not known where a part is.
	unsentFunc func(p *part, err error)
)

// toNodes makes a trip to every node that some of parts are on, at once. Those whose node is not known yet are waited for, as long as a
// change may take, and the others do not wait with them: a caller's time would be over for all. Both functions are
// called concurrently.
func (c *Cache[V]) toNodes(ctx context.Context, parts []*part, trip tripFunc, unsent unsentFunc) {
	known := make(map[*node][]*part, 1)
	var unknown []*part
	for _, p := range parts {
		if n := p.home.Load(); n != nil {
			known[n] = append(known[n], p)
			continue
		}
		unknown = append(unknown, p)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	if len(unknown) > 0 {
		wg.Go(func() { each(c.findNodes(ctx, unknown, unsent), trip) })
	}
	each(known, trip)
}

// findNodes returns the nodes of parts that have none yet.
func (c *Cache[V]) findNodes(ctx context.Context, parts []*part, unsent unsentFunc) map[*node][]*part {
	ctx, cancel := context.WithTimeout(ctx, c.opts.RedisTimeout)
	defer cancel()
	nodes := make(map[*node][]*part)
	for _, p := range parts {
		n, err := p.nodeFor(ctx)
		if err != nil {
			unsent(p, err)
			continue
		}
		nodes[n] = append(nodes[n], p)
	}
	return nodes
}

// each calls f for every node, at once.
func each(nodes map[*node][]*part, f tripFunc) {
	if len(nodes) == 1 {
		for n, parts := range nodes {
			f(n, parts)
		}
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for n, parts := range nodes {
		wg.Go(func() { f(n, parts) })
	}
}

// sendFunc makes one trip to a node for some parts, with what their journals have begun, and returns an error for each.
type sendFunc func(ctx context.Context, n *node, parts []*part, moves []uint64) []error

// change sends something that concerns whole parts to their nodes, one trip to each, and returns the parts of which it is not
// confirmed, with why.
func (c *Cache[V]) change(ctx context.Context, parts []*part, send sendFunc) (failed map[*part]error) {
	failed = make(map[*part]error)
	var mu sync.Mutex // protects failed
	fail := func(p *part, err error) {
		mu.Lock()
		defer mu.Unlock()
		failed[p] = err
	}
	c.toNodes(ctx, parts, func(n *node, parts []*part) {
		ctx, cancel := context.WithTimeout(ctx, c.opts.RedisTimeout)
		defer cancel()
		sent, moves, moved := startAll(n, parts)
		var errs []error
		if len(sent) > 0 {
			errs = send(ctx, n, sent, moves)
		}
		for _, p := range moved {
			fail(p, errMoved)
		}
		for i, p := range sent {
			if errs[i] != nil {
				fail(p, errs[i])
			}
		}
	}, fail)
	return failed
}

// startAll is part.start of each of parts. Those that have moved are not to be sent for.
func startAll(n *node, parts []*part) (sent []*part, moves []uint64, moved []*part) {
	for _, p := range parts {
		m, err := p.start(n)
		if err != nil {
			moved = append(moved, p)
			continue
		}
		sent, moves = append(sent, p), append(moves, m)
	}
	return sent, moves, moved
}

func numbers(parts []*part) []int {
	all := make([]int, len(parts))
	for i, p := range parts {
		all[i] = p.number
	}
	return all
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
