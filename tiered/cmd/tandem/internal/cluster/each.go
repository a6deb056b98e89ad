package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/remote"
)

const (
	// attemptTimeout bounds one attempt: a node that does not answer may have a successor by then.
	attemptTimeout = 3 * time.Second
	firstWait      = 50 * time.Millisecond
	lastWait       = time.Second
)

// SendFunc does some of what is to be done, those of these numbers, on the node of store. It returns an error for each.
type SendFunc func(ctx context.Context, store *remote.Store, which []int) []error

// Each sends what is to be done to the nodes of its partitions, at[i] being the partition of number i, and returns an error for
// each. What fails is repeated until ctx ends, so doing it twice must not matter.
//
// MOVED is followed, and ASK is not: the node that it leads to publishes where no instance listens yet.
func (c *Client) Each(ctx context.Context, keys remote.Keys, at []int, send SendFunc) []error {
	errs := make([]error, len(at))
	open := make([]int, len(at))
	for i := range open {
		open[i] = i
	}
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		c.round(ctx, keys, at, open, errs, send)
		open = slices.DeleteFunc(open, func(i int) bool { return errs[i] == nil || final(errs[i]) })
		if len(open) == 0 || !sleep(ctx, wait) {
			return errs
		}
		c.Reload(ctx)
	}
}

// round sends what is open once, to all nodes at once, and notes how it went in errs.
func (c *Client) round(ctx context.Context, keys remote.Keys, at, open []int, errs []error, send SendFunc) {
	byNode := make(map[string][]int)
	for _, i := range open {
		addr, err := c.Owner(ctx, keys.Epoch(at[i]))
		if err != nil {
			note(ctx, errs, []int{i}, []error{err})
			continue
		}
		byNode[addr] = append(byNode[addr], i)
	}
	var nodes sync.WaitGroup
	for addr, which := range byNode {
		nodes.Go(func() { note(ctx, errs, which, c.attempt(ctx, addr, keys, which, send)) })
	}
	nodes.Wait()
}

func (c *Client) attempt(ctx context.Context, addr string, keys remote.Keys, which []int, send SendFunc) []error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	node, err := c.Node(addr)
	if err != nil {
		return slices.Repeat([]error{err}, len(which))
	}
	errs := send(ctx, remote.New(node, remote.Options{Keys: keys}), which)
	for i, err := range errs {
		if err != nil {
			errs[i] = fmt.Errorf("node %s: %w", addr, pubsub.Explain(err))
		}
	}
	return errs
}

// note keeps the last error that tells more than that time is over.
func note(ctx context.Context, errs []error, which []int, got []error) {
	for n, i := range which {
		if got[n] == nil || errs[i] == nil || ctx.Err() == nil {
			errs[i] = got[n]
		}
	}
}

// final reports whether no repetition changes anything. What the owner of the cluster is to change is named by pubsub.Explain.
func final(err error) bool {
	if errors.Is(err, pubsub.ErrUnsupportedServer) || errors.Is(err, pubsub.ErrNoPermission) || errors.Is(err, context.Canceled) {
		return true
	}
	return strings.Contains(err.Error(), "NOAUTH ") || strings.Contains(err.Error(), "WRONGPASS ")
}

// sleep reports whether there is time left.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
