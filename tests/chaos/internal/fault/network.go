//go:build linux

package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/tests/chaos/internal/arena"
	"github.com/tandemcache/tandem/tests/chaos/internal/proxy"
)

// network are the faults between some of the instances and Redis.
func network() []Fault {
	hold := proxy.Rule{Hold: true}
	return []Fault{
		onLinks("bus-blackholed", func(p *proxy.Proxy, _ *rand.Rand) { p.Set(proxy.Bus, proxy.Both, hold) }),
		onLinks("data-blackholed", func(p *proxy.Proxy, _ *rand.Rand) { p.Set(proxy.Data, proxy.Both, hold) }),
		onLinks("all-blackholed", func(p *proxy.Proxy, _ *rand.Rand) { p.Set(proxy.AnyKind, proxy.Both, hold) }),
		onLinks("half-open", func(p *proxy.Proxy, rng *rand.Rand) {
			p.Set(proxy.AnyKind, []proxy.Direction{proxy.Up, proxy.Down}[rng.IntN(2)], hold)
		}),
		onLinks("refused", func(p *proxy.Proxy, _ *rand.Rand) { p.Refuse() }),
		onLinks("slow", func(p *proxy.Proxy, rng *rand.Rand) {
			// From a bad line to one on which every wait of Redis ends in its timeout.
			p.Set(proxy.AnyKind, proxy.Both, proxy.Rule{Delay: time.Duration(20+rng.IntN(280)) * time.Millisecond})
		}),
		onLinks("slow-bus", func(p *proxy.Proxy, rng *rand.Rand) {
			p.Set(proxy.Bus, proxy.Down, proxy.Rule{Delay: time.Duration(200+rng.IntN(2800)) * time.Millisecond})
		}),
		{Name: "reset", Class: Network, Cluster: true, Start: again(100*time.Millisecond, func(_ context.Context, a *arena.Arena, rng *rand.Rand) error {
			for _, s := range some(a, rng) {
				for _, p := range s.Proxies {
					p.Reset(proxy.AnyKind)
				}
			}
			return nil
		})},
		{Name: "subscriber-killed", Class: Server, Start: again(250*time.Millisecond, func(ctx context.Context, a *arena.Arena, _ *rand.Rand) error {
			return a.Admin.ClientKillByFilter(ctx, "TYPE", "pubsub").Err()
		})},
	}
}

func onLinks(name string, broken func(*proxy.Proxy, *rand.Rand)) Fault {
	return Fault{Name: name, Class: Network, Cluster: true, Start: func(_ context.Context, a *arena.Arena, rng *rand.Rand) (func() error, error) {
		slots := some(a, rng)
		a.Notef("%s: instances in slots %v", name, indices(slots))
		for _, s := range slots {
			for _, p := range s.Proxies {
				broken(p, rng)
			}
		}
		return func() error {
			var errs []error
			for _, s := range slots {
				errs = append(errs, s.Pass())
			}
			return errors.Join(errs...)
		}, nil
	}}
}

type start = func(context.Context, *arena.Arena, *rand.Rand) (func() error, error)

// again repeats f until the fault is mended.
func again(every time.Duration, f func(context.Context, *arena.Arena, *rand.Rand) error) start {
	return func(ctx context.Context, a *arena.Arena, rng *rand.Rand) (func() error, error) {
		return background(ctx, func(ctx context.Context) error {
			err := ErrIdle
			for {
				switch failed := f(ctx, a, rng); {
				case failed == nil, ctx.Err() != nil:
					err = nil
				case err != nil:
					err = fmt.Errorf("%w: %w", ErrIdle, failed)
				}
				select {
				case <-time.After(every):
				case <-ctx.Done():
					return err
				}
			}
		}), nil
	}
}

// ErrIdle is returned at the end of a fault that is done again and again if it never was: beside others it may have no chance.
var ErrIdle = errors.New("fault: it was never done")

// answered reports whether an error is what Redis says. Others come and go with the faults beside this one, and a second
// later: after some dials that failed, go-redis' pool repeats their error and tries again only now and then.
func answered(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// insist repeats f while Redis cannot be reached.
func insist(f func() error) error { return repeat(f, answered) }

// repeat repeats f until it succeeds, or fails for good, or patience is at its end.
func repeat(f func() error, forGood func(error) bool) error {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if err := f(); err == nil || forGood(err) || time.Now().After(end) {
			return err
		}
	}
}

// patience is how long Redis may be out of reach when a fault is mended.
const patience = 30 * time.Second

// background runs f until heal is called, which ends its context and returns its error.
func background(ctx context.Context, f func(context.Context) error) (heal func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	return func() error {
		cancel()
		return <-done
	}
}
