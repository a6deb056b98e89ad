package tiered

import (
	"cmp"
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tandemcache/tandem/remote"
)

// askFunc makes one trip to a node for some members, and returns an answer for each.
type askFunc[V, T any] func(ctx context.Context, n *node, ms []*member[V]) []remote.Answer[T]

// askAll makes one trip to each node for the members that are there, all at once, and returns an answer for each. A node that
// does not answer uses up the time of its own members only; what is left of the budget afterwards is what the slowest has left,
// unless that is nothing and others have some.
func askAll[V, T any](g *group[V], what string, ms []*member[V], ask askFunc[V, T]) []remote.Answer[T] {
	of := make(map[*node][]int, 1)
	for i, m := range ms {
		of[m.o.node] = append(of[m.o.node], i)
	}
	if len(of) == 1 {
		return askNode(g, g.budget, what, ms[0].o.node, ms, ask)
	}
	answers := make([]remote.Answer[T], len(ms))
	var wg sync.WaitGroup
	var mu sync.Mutex // protects left
	var left []*budget
	for n, at := range of {
		wg.Go(func() {
			own := make([]*member[V], len(at))
			for i, m := range at {
				own[i] = ms[m]
			}
			b := *g.budget
			for i, a := range askNode(g, &b, what, n, own, ask) {
				answers[at[i]] = a
			}
			mu.Lock()
			defer mu.Unlock()
			left = append(left, &b)
		})
	}
	wg.Wait()
	g.budget.left = leastLeft(left)
	return answers
}

// leastLeft returns what is left to all who have any left.
func leastLeft(budgets []*budget) (least time.Duration) {
	for _, b := range budgets {
		if b.left > 0 && (least == 0 || b.left < least) {
			least = b.left
		}
	}
	return least
}

// askNode makes one trip to Redis for the members, and returns an answer for each. What Redis says about one key is that key's
// own; where it does not answer, the rest of the budget is gone.
func askNode[V, T any](g *group[V], b *budget, what string, n *node, ms []*member[V], ask askFunc[V, T]) []remote.Answer[T] {
	var answers []remote.Answer[T]
	var said error
	err := b.do(g.ctx, func(ctx context.Context) error {
		answers = ask(ctx, n, ms)
		for _, a := range answers {
			switch {
			case a.Err == nil, isBad(a.Err):
			case isReply(a.Err):
				said = cmp.Or(said, a.Err)
			default:
				return a.Err
			}
		}
		return nil
	})
	if answers == nil { // there was no time for it
		answers = make([]remote.Answer[T], len(ms))
		for i := range answers {
			answers[i].Err = err
		}
	}
	// Whichever key: the breaker wants to see different ones, and a batch may be one that comes again and again.
	g.c.trip(n, ms[rand.IntN(len(ms))].key, what, cmp.Or(err, said))
	return answers
}
