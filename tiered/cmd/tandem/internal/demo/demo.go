// Package demo shows what a fleet of caches does, step by step, and measures whether it is what the library promises: a
// step that finds otherwise returns an error.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/tandemcache/tandem/tiered"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/fleet"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/source"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/target"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/ui"
)

// redisTimeout is longer than the default: on a machine that stalls for a moment, a cache goes on without Redis, which is
// right for a service and would hide here what the demonstration is about.
const redisTimeout = 2 * time.Second

// Config says how much is shown.
type Config struct {
	Redis        *target.Server // nil: in this process
	Instances    int
	Load         time.Duration // that the source takes
	Readers      int           // of the burst
	Samples      int           // of the latency of L2
	Rounds       int           // of invalidations
	Cuts         int           // connections closed
	Silences     int           // connections that go deaf
	MaxStaleness time.Duration
	Logger       *slog.Logger
}

// Validate returns an error for each value that makes no sense.
func (c Config) Validate() error {
	var errs []error
	check := func(name string, got, least, most int) {
		if got < least || got > most {
			errs = append(errs, fmt.Errorf("-%s is %d, must be from %d to %d", name, got, least, most))
		}
	}
	check("instances", c.Instances, 2, 64)
	check("readers", c.Readers, 1, 1_000_000)
	check("samples", c.Samples, 1, 1_000_000)
	check("rounds", c.Rounds, 1, 1_000_000)
	check("cuts", c.Cuts, 0, 10_000)
	check("silences", c.Silences, 0, 1000)
	if c.Load < 0 || c.Load > 5*time.Second {
		errs = append(errs, fmt.Errorf("-load is %v, must be from 0 to 5s", c.Load))
	}
	return errors.Join(errs...)
}

// Report is everything that was measured. A step that was not reached is nil.
type Report struct {
	OK           bool          `json:"ok"`
	Failure      string        `json:"failure,omitempty"`
	Redis        string        `json:"redis"`
	Instances    int           `json:"instances"`
	MaxStaleness time.Duration `json:"max_staleness_ns"`

	Burst        *Burst         `json:"burst,omitempty"`
	Latency      *Latency       `json:"latency,omitempty"`
	Invalidation *Invalidation  `json:"invalidation,omitempty"`
	OldLoad      *OldLoad       `json:"old_load,omitempty"`
	Outage       *Outage        `json:"outage,omitempty"`
	Totals       []fleet.Totals `json:"totals,omitempty"`
	Took         time.Duration  `json:"took_ns"`
}

// demo is one run.
type demo struct {
	Config

	fleet  *fleet.Fleet
	source *source.Source
	out    *ui.Printer
	report *Report
}

// Run shows everything on out and returns the report, whatever the error says. The first claim that does not hold ends it.
func Run(ctx context.Context, cfg Config, out io.Writer) (*Report, error) {
	d := &demo{
		Config: cfg, source: source.New(cfg.Load), out: ui.New(out),
		report: &Report{Instances: cfg.Instances, MaxStaleness: cfg.MaxStaleness},
	}
	began := time.Now()
	err := d.run(ctx)
	d.report.Took = time.Since(began)
	if d.report.OK = err == nil; err != nil {
		d.report.Failure = err.Error()
		d.out.Failed(err)
		return d.report, err
	}
	d.out.Line("")
	d.out.OK("all of it held, in " + ui.Duration(d.report.Took))
	return d.report, nil
}

func (d *demo) run(ctx context.Context) (err error) {
	d.fleet, err = fleet.Start(ctx, fleet.Config{
		Redis: d.Redis, Instances: d.Instances, Source: d.source,
		Options: tiered.Options[source.User]{MaxStaleness: d.MaxStaleness, RedisTimeout: redisTimeout, Logger: d.Logger},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.fleet.Close()) }()
	d.report.Redis = d.fleet.Where
	d.out.Title("tandem demo", fmt.Sprintf("%d instances of one cache, Redis: %s, the source takes %v, MaxStaleness %v",
		d.Instances, d.fleet.Where, d.Load, d.MaxStaleness))

	for _, step := range []func(context.Context) error{
		d.showBurst, d.showLatency, d.showInvalidation, d.showOldLoad, d.showOutage,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	d.report.Totals = d.fleet.Totals()
	d.out.Step(6, "What each instance did", "")
	fleet.PrintTotals(d.out, d.report.Totals)
	return nil
}

// rows returns n rows of users from the number first on.
func (d *demo) rows(first, n int) []*source.Row {
	rows := make([]*source.Row, n)
	for i := range rows {
		rows[i] = d.source.Row(fmt.Sprintf("user:%d", first+i))
	}
	return rows
}

// everyone reads a row on every instance, and returns an error unless all get the source's current version.
func (d *demo) everyone(ctx context.Context, row *source.Row) error {
	want := row.User()
	for _, i := range d.fleet.Instances {
		u, err := i.Cache.Get(ctx, row.Key)
		if err != nil {
			return fmt.Errorf("instance %d: Get(%s): %w", i.Index+1, row.Key, err)
		}
		if u != want {
			return fmt.Errorf("instance %d still reads %s in version %d, the source is at %d", i.Index+1, row.Key, u.Version, want.Version)
		}
	}
	return nil
}

// warm brings a row's current version into every L1. One Get need not do it: Ristretto may decline an entry.
func (d *demo) warm(ctx context.Context, row *source.Row) error {
	for _, i := range d.fleet.Instances {
		err := until(ctx, d.loadLimit(), func() (bool, error) {
			if u, ok := i.Local(row.Key); ok && u == row.User() {
				return true, nil
			}
			_, err := i.Cache.Get(ctx, row.Key)
			return false, err
		})
		if err != nil {
			return fmt.Errorf("instance %d does not keep %s in L1: %w", i.Index+1, row.Key, err)
		}
	}
	return nil
}

// waitLimit bounds what takes a moment.
const waitLimit = 5 * time.Second

// loadLimit bounds the same where the source is asked: for a load that others began before a change, perhaps, and one after it.
func (d *demo) loadLimit() time.Duration { return waitLimit + 2*d.Load }

// until polls ready until it says so or fails, ctx ends, or limit has passed.
func until(ctx context.Context, limit time.Duration, ready func() (bool, error)) error {
	for deadline := time.Now().Add(limit); ; {
		ok, err := ready()
		if ok || err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v", limit)
		}
		time.Sleep(time.Millisecond)
	}
}
