package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tandemcache/tandem/tiered"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/fleet"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/history"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/source"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/ui"
)

// Outage is what readers saw while subscriptions broke, each right before an invalidation.
type Outage struct {
	Cuts     int           `json:"cuts"`     // connections that were closed
	Silences int           `json:"silences"` // connections that stayed open and delivered nothing
	Missed   int           `json:"missed"`   // invalidations that the instance in trouble never heard
	Sessions uint64        `json:"sessions"` // subscriptions that began since
	Repeats  int           `json:"repeated_writes"`
	Reads    history.Tally `json:"reads"`
}

func (d *demo) showOutage(ctx context.Context) error {
	d.out.Step(5, "Subscribers lose their connection right before an invalidation",
		"All instances read all the time, every value is judged. Nobody repeats what one has missed.")
	rows := d.rows(100, d.Cuts+d.Silences)
	o, err := d.outage(ctx, rows)
	if err != nil {
		return err
	}
	d.report.Outage = o
	rounds := o.Cuts + o.Silences
	d.out.Fact("connections closed", ui.Count(o.Cuts), "")
	d.out.Fact("connections gone deaf", ui.Count(o.Silences), "open, and nothing arrives")
	d.out.Fact("invalidations missed", ui.Count(o.Missed), fmt.Sprintf("of %d, by the instance in trouble", rounds))
	d.out.Fact("new sessions", ui.Count(o.Sessions), "each drops what L1 held")
	if o.Repeats > 0 {
		d.out.Fact("writes repeated", ui.Count(o.Repeats), "Redis had not confirmed them")
	}
	fleet.PrintTally(d.out, &o.Reads)
	if err := o.Reads.Err(); err != nil {
		return err
	}
	if o.Sessions < uint64(rounds) {
		return fmt.Errorf("%d subscriptions broke, and only %d began again", rounds, o.Sessions)
	}
	for _, row := range rows {
		if err := d.everyone(ctx, row); err != nil {
			return err
		}
	}
	d.out.OK(fmt.Sprintf("no read was stale for longer than MaxStaleness (%v)", d.MaxStaleness))
	return nil
}

func (d *demo) outage(ctx context.Context, rows []*source.Row) (*Outage, error) {
	for _, row := range rows {
		if err := d.warm(ctx, row); err != nil {
			return nil, err
		}
	}
	o := &Outage{Cuts: d.Cuts, Silences: d.Silences}
	before := fleet.Sum(d.fleet.Totals()).Sessions
	stopReaders := d.startReaders(ctx, rows)
	err := d.breakSubscriptions(ctx, rows, o)
	if err == nil {
		d.out.Progressf("waiting until MaxStaleness has passed")
		// Until every change is older than MaxStaleness, so that the readers would see one that is never noticed.
		err = pause(ctx, d.MaxStaleness+d.MaxStaleness/4)
	}
	tally, readErr := stopReaders()
	if err != nil {
		return nil, err
	}
	if readErr != nil {
		return nil, readErr
	}
	o.Reads = tally
	o.Sessions = fleet.Sum(d.fleet.Totals()).Sessions - before
	return o, nil
}

// breakSubscriptions breaks one instance's subscription after the other, and changes a row each time.
func (d *demo) breakSubscriptions(ctx context.Context, rows []*source.Row, o *Outage) error {
	for n, row := range rows {
		d.out.Progressf("connection %d of %d", n+1, len(rows))
		victim := d.fleet.Instances[n%d.Instances]
		writer := d.fleet.Instances[(n+1)%d.Instances]
		breakLine := victim.Cut
		if n >= d.Cuts {
			breakLine = victim.Deafen
		}
		if err := d.breakOnce(ctx, row, victim, writer, breakLine, o); err != nil {
			return fmt.Errorf("connection %d, of instance %d: %w", n+1, victim.Index+1, err)
		}
	}
	return nil
}

func (d *demo) breakOnce(ctx context.Context, row *source.Row, victim, writer *fleet.Instance, breakLine func() bool, o *Outage) error {
	limit := d.MaxStaleness + waitLimit
	trusted := func() (bool, error) { return victim.Cache.Health().LocalTrusted, nil }
	if err := until(ctx, limit, trusted); err != nil {
		return fmt.Errorf("it does not hear invalidations: %w", err)
	}
	if err := d.warm(ctx, row); err != nil {
		return err
	}
	before := victim.Cache.Stats()
	if !breakLine() {
		return fmt.Errorf("it has no subscription to break")
	}
	repeats, err := writer.Write(ctx, row, false)
	o.Repeats += repeats
	if err != nil {
		return err
	}
	var after tiered.Stats
	err = until(ctx, limit, func() (bool, error) {
		after = victim.Cache.Stats()
		return after.Sessions > before.Sessions, nil
	})
	if err != nil {
		return fmt.Errorf("no new subscription: %w", err)
	}
	if after.Received == before.Received {
		o.Missed++
	}
	return nil
}

// readerPause is between two rounds of a reader through all rows: with few processors, readers that never rest would slow
// down what they watch.
const readerPause = 200 * time.Microsecond

// startReaders has every instance read all rows over and over until stop is called, which returns the verdicts.
func (d *demo) startReaders(ctx context.Context, rows []*source.Row) (stop func() (history.Tally, error)) {
	done := make(chan struct{})
	tallies := make([]history.Tally, d.Instances)
	errs := make([]error, d.Instances)
	var readers sync.WaitGroup
	for n, i := range d.fleet.Instances {
		tallies[n].Bound = d.MaxStaleness
		readers.Go(func() {
			for errs[n] == nil {
				select {
				case <-done:
					return
				default:
				}
				errs[n] = readAll(ctx, i, rows, &tallies[n])
				time.Sleep(readerPause)
			}
		})
	}
	return func() (history.Tally, error) {
		close(done)
		readers.Wait()
		sum := history.Tally{Bound: d.MaxStaleness}
		for n, err := range errs {
			if err != nil {
				return sum, fmt.Errorf("instance %d: %w", n+1, err)
			}
			sum.Merge(tallies[n])
		}
		return sum, nil
	}
}

func readAll(ctx context.Context, i *fleet.Instance, rows []*source.Row, t *history.Tally) error {
	for _, row := range rows {
		if err := i.Read(ctx, row, t); err != nil {
			return fmt.Errorf("Get(%s): %w", row.Key, err)
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
