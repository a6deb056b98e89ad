//go:build linux

package fault

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/tandemcache/tandem/tests/chaos/internal/arena"
	"github.com/tandemcache/tandem/tests/chaos/internal/worker"
)

// failoverSpan is long enough for the Sentinels to notice, to agree, and to promote.
const failoverSpan = 5 * time.Second

// sentinels are the faults of a Redis that fails over. They are mended when there is one master with two replicas again.
func sentinels() []Fault {
	return []Fault{
		{Name: "failover", Class: Server, Needs: arena.WithSentinels, Since: Started, Span: failoverSpan, Start: func(_ context.Context, a *arena.Arena, _ *rand.Rand) (func() error, error) {
			return a.Sentinels.AwaitWhole, a.Sentinels.Failover()
		}},
		{Name: "master-killed", Class: Server, Needs: arena.WithSentinels, Since: Started, Span: failoverSpan, Start: func(_ context.Context, a *arena.Arena, _ *rand.Rand) (func() error, error) {
			master, err := a.Sentinels.Master()
			if err != nil {
				return nil, err
			}
			return func() error {
				return errors.Join(master.Restart(), a.Sentinels.AwaitWhole())
			}, master.Kill()
		}},
		{
			Name: "split-brain", Class: Server, Bars: []Class{Process}, Needs: arena.WithSentinels,
			Since: Mending, Span: 2 * failoverSpan, Start: silently(cut),
		},
		{
			Name: "split-brain-acknowledged", Class: Server, Needs: arena.WithSentinels, Since: Mending, Span: 2 * failoverSpan, Start: cut,
			Gap: "Redis acknowledges for two seconds what only the side that loses has, and who could repeat it is on that side",
		},
	}
}

// replication is longer than it takes, and than RedisTimeout: until that is over, a Set that was not confirmed waits to be
// invalidated, which the side that is cut off would acknowledge.
const replication = 2 * time.Second

func cut(_ context.Context, a *arena.Arena, _ *rand.Rand) (func() error, error) {
	a.Sentinels.Cut()
	return func() error { return errors.Join(a.Sentinels.Mend(), a.Sentinels.AwaitWhole()) }, nil
}

// silently has the near side, which is about to be cut off, write nothing: what it would acknowledge by itself and then lose
// has faults of its own.
func silently(cut start) start {
	return func(ctx context.Context, a *arena.Arena, rng *rand.Rand) (func() error, error) {
		near := a.Near()
		loud := func() error { return each(ctx, near, a.Options.WriteRate) }
		if err := each(ctx, near, 0); err != nil {
			return loud, err
		}
		time.Sleep(replication)
		heal, err := cut(ctx, a, rng)
		if err != nil {
			return loud, err
		}
		return func() error { return errors.Join(heal(), loud()) }, nil
	}
}

// each sets the rate of writes of some instances, and waits for it; one that stands still is waited for in vain.
func each(ctx context.Context, slots []*arena.Slot, rate int) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var errs []error
	for _, s := range slots {
		errs = append(errs, s.Worker().Do(ctx, worker.Write, rate))
	}
	return errors.Join(errs...)
}
