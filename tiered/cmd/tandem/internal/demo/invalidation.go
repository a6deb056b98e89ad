package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/fleet"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/measure"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/source"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/ui"
)

const pollPause = 20 * time.Microsecond

// Invalidation is how long it takes until a change is seen. All times count from the start of Invalidate.
type Invalidation struct {
	Rounds   int            `json:"rounds"`
	Returned measure.Spread `json:"returned"` // Invalidate itself
	Evicted  measure.Spread `json:"evicted"`  // the old value is gone from another instance's L1
}

func (d *demo) showInvalidation(ctx context.Context) error {
	d.out.Step(3, "A change reaches the other instances",
		"All have it in L1. The source changes, one calls Invalidate, and the others' L1 is polled.")
	v, err := d.invalidation(ctx)
	if err != nil {
		return err
	}
	d.report.Invalidation = v
	d.out.Quantiles("Invalidate returned after", v.Returned, ui.Plural(v.Returned.Samples, "round"))
	d.out.Quantiles("another L1 had dropped it after", v.Evicted, ui.Plural(v.Evicted.Samples, "eviction"))
	d.out.OK("after each of them, every instance read the new version")
	return nil
}

func (d *demo) invalidation(ctx context.Context) (*Invalidation, error) {
	row := d.source.Row("user:7")
	var returned, evicted []time.Duration
	for round := range d.Rounds {
		d.out.Progressf("round %d of %d", round+1, d.Rounds)
		writer := d.fleet.Instances[round%d.Instances]
		r, e, err := d.invalidateOnce(ctx, row, writer)
		if err != nil {
			return nil, fmt.Errorf("round %d: %w", round+1, err)
		}
		returned, evicted = append(returned, r), append(evicted, e...)
	}
	return &Invalidation{Rounds: d.Rounds, Returned: measure.Of(returned), Evicted: measure.Of(evicted)}, nil
}

func (d *demo) invalidateOnce(ctx context.Context, row *source.Row, writer *fleet.Instance) (time.Duration, []time.Duration, error) {
	if err := d.warm(ctx, row); err != nil {
		return 0, nil, err
	}
	var others []*fleet.Instance
	for _, i := range d.fleet.Instances {
		if i != writer {
			others = append(others, i)
		}
	}
	version := row.Change()
	polling, seen := make(chan struct{}), make(chan []lookups, 1)
	go func() { seen <- pollEviction(row.Key, version, others, polling, d.MaxStaleness+waitLimit) }()
	<-polling

	began := time.Now()
	err := writer.Cache.Invalidate(ctx, row.Key)
	returned := time.Since(began)
	all := <-seen // also after an error: the poller must not outlive the round
	if err != nil {
		return 0, nil, err
	}
	evicted := make([]time.Duration, 0, len(others))
	for n, l := range all {
		after := l.gone.Sub(began)
		switch {
		case l.broke(began, d.MaxStaleness+returned):
			return 0, nil, fmt.Errorf("instance %d served the old value for longer than MaxStaleness", others[n].Index+1)
		case after >= 0: // else L1 had lost it already, for a reason of its own
			evicted = append(evicted, after)
		}
	}
	return returned, evicted, d.everyone(ctx, row)
}

// lookups are when two lookups in an L1 began: the last one that found the old value, which is what a promise can be judged by,
// as the poller may stand still for any time after it; and the first one that did not. Zero is never.
type lookups struct{ old, gone time.Time }

// broke reports whether L1 has served the old value for longer than bound.
func (l lookups) broke(began time.Time, bound time.Duration) bool {
	return l.gone.IsZero() || l.old.Sub(began) > bound
}

// pollEviction looks for a version older than version in each L1 until it is gone, or for limit. It looks at L1 alone, because
// a Get that finds nothing there takes as long as the load.
//
// One goroutine polls all of them, and sleeps in between. The runtime looks at the network only when a processor has nothing
// else to do, so a loop that never rests would delay the very message that it waits for by up to 10 ms; a sleeping one is
// woken by the message.
func pollEviction(key string, version uint64, from []*fleet.Instance, polling chan<- struct{}, limit time.Duration) []lookups {
	seen := make([]lookups, len(from))
	close(polling)
	deadline := time.Now().Add(limit)
	for left := len(from); left > 0; time.Sleep(pollPause) {
		for n, i := range from {
			if !seen[n].gone.IsZero() {
				continue
			}
			began := time.Now()
			if u, ok := i.Local(key); !ok || u.Version >= version {
				seen[n].gone = began
				left--
				continue
			}
			if seen[n].old = began; began.After(deadline) {
				return seen
			}
		}
	}
	return seen
}
