//go:build linux

package fault

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/tandemcache/tandem/tests/chaos/internal/arena"
)

// failoverSpan is long enough for the Sentinels to notice, to agree, and to promote.
const failoverSpan = 5 * time.Second

// sentinels are the faults of a Redis that fails over. They are mended when there is one master with two replicas again.
func sentinels() []Fault {
	return []Fault{
		{Name: "failover", Class: Server, Needs: arena.WithSentinels, Span: failoverSpan, Start: func(_ context.Context, a *arena.Arena, _ *rand.Rand) (func() error, error) {
			return a.Sentinels.AwaitWhole, a.Sentinels.Failover()
		}},
		{Name: "master-killed", Class: Server, Needs: arena.WithSentinels, Span: failoverSpan, Start: func(_ context.Context, a *arena.Arena, _ *rand.Rand) (func() error, error) {
			master, err := a.Sentinels.Master()
			if err != nil {
				return nil, err
			}
			return func() error {
				return errors.Join(master.Restart(), a.Sentinels.Announce(), a.Sentinels.AwaitWhole())
			}, master.Kill()
		}},
		{Name: "split-brain", Class: Server, Needs: arena.WithSentinels, Span: 2 * failoverSpan, Start: func(_ context.Context, a *arena.Arena, _ *rand.Rand) (func() error, error) {
			a.Sentinels.Cut()
			return func() error { return errors.Join(a.Sentinels.Mend(), a.Sentinels.AwaitWhole()) }, nil
		}},
	}
}
