// Package replay sends a recorded sequence of accesses through a fleet of caches, with writes mixed in, and judges every
// value that comes back.
package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/tandemcache/tandem/local"
	"github.com/tandemcache/tandem/tiered"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/fleet"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/history"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/source"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/target"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/ui"
)

// Config says what is replayed, and how.
type Config struct {
	Redis        *target.Server // nil: in this process
	Trace        *Trace
	Instances    int
	Workers      int           // for each instance
	Writes       float64       // per cent of the accesses
	Load         time.Duration // that the source takes
	MaxStaleness time.Duration
	LocalBytes   int64 // budget of each L1
	Logger       *slog.Logger
}

// Validate returns an error for each value that makes no sense.
func (c Config) Validate() error {
	var errs []error
	if c.Instances < 1 || c.Instances > 64 {
		errs = append(errs, fmt.Errorf("-instances is %d, must be from 1 to 64", c.Instances))
	}
	if c.Workers < 1 || c.Workers > 1000 {
		errs = append(errs, fmt.Errorf("-workers is %d, must be from 1 to 1000", c.Workers))
	}
	if !(c.Writes >= 0 && c.Writes <= 100) {
		errs = append(errs, fmt.Errorf("-writes is %v, must be from 0 to 100", c.Writes))
	}
	if c.Load < 0 || c.Load > 5*time.Second {
		errs = append(errs, fmt.Errorf("-load is %v, must be from 0 to 5s", c.Load))
	}
	if c.LocalBytes < local.MinBytes {
		errs = append(errs, fmt.Errorf("-local-bytes is %d, must be at least %d", c.LocalBytes, local.MinBytes))
	}
	return errors.Join(errs...)
}

// Report is everything that was measured.
type Report struct {
	OK           bool          `json:"ok"`
	Failure      string        `json:"failure,omitempty"`
	Redis        string        `json:"redis"`
	Instances    int           `json:"instances"`
	Workers      int           `json:"workers_per_instance"`
	MaxStaleness time.Duration `json:"max_staleness_ns"`

	Accesses int `json:"accesses"`
	Keys     int `json:"distinct_keys"`

	Took       time.Duration `json:"took_ns"` // of the replay alone
	ReadRate   float64       `json:"reads_per_second"`
	LocalHits  float64       `json:"l1_hit_ratio"` // of all reads
	RemoteHits float64       `json:"l2_hit_ratio"` // of all reads
	Commands   float64       `json:"redis_commands_per_read"`
	Loads      int64         `json:"loads"`
	LoadTook   time.Duration `json:"load_took_ns"` // on average
	Writes     Writes        `json:"writes"`

	Judged history.Tally  `json:"judged"`
	Totals []fleet.Totals `json:"totals"`
}

// Writes are the changes that were mixed in.
type Writes struct {
	Invalidates int `json:"invalidates"`
	Sets        int `json:"sets"`
	Repeated    int `json:"repeated"` // because Redis had not confirmed
}

// Run replays the trace, writes about it to out, and returns the report, whatever the error says.
func Run(ctx context.Context, cfg Config, out io.Writer) (*Report, error) {
	p := ui.New(out)
	report := &Report{
		Instances: cfg.Instances, Workers: cfg.Workers, MaxStaleness: cfg.MaxStaleness,
		Accesses: len(cfg.Trace.Accesses), Keys: len(cfg.Trace.Keys),
	}
	err := run(ctx, cfg, p, report)
	if report.OK = err == nil; err != nil {
		report.Failure = err.Error()
		p.Failed(err)
		return report, err
	}
	p.OK("every read was as new as promised")
	return report, nil
}

func run(ctx context.Context, cfg Config, p *ui.Printer, report *Report) (err error) {
	src := source.New(cfg.Load)
	f, err := fleet.Start(ctx, fleet.Config{
		Redis: cfg.Redis, Instances: cfg.Instances, Source: src,
		Options: tiered.Options[source.User]{MaxStaleness: cfg.MaxStaleness, LocalBytes: cfg.LocalBytes, Logger: cfg.Logger},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	report.Redis = f.Where
	p.Title("tandem demo: replaying a trace",
		fmt.Sprintf("%s accesses to %s keys, %v %% of them with a write before, the source takes %v",
			ui.Count(report.Accesses), ui.Count(report.Keys), cfg.Writes, cfg.Load),
		fmt.Sprintf("%d instances with %d workers each, Redis: %s, MaxStaleness %v",
			cfg.Instances, cfg.Workers, f.Where, cfg.MaxStaleness))

	player := newPlayer(cfg, f, src)
	if err := player.play(ctx, p); err != nil {
		return err
	}
	report.measured(player, src)
	report.print(p)
	return report.Judged.Err()
}

func (r *Report) measured(pl *player, src *source.Source) {
	r.Took = pl.took
	for i := range pl.workers {
		w := &pl.workers[i]
		r.Judged.Merge(w.tally)
		r.Writes.Invalidates += w.writes.Invalidates
		r.Writes.Sets += w.writes.Sets
		r.Writes.Repeated += w.writes.Repeated
	}
	r.Judged.Bound = r.MaxStaleness
	r.Totals = pl.fleet.Totals()
	sum := fleet.Sum(r.Totals)
	r.ReadRate = float64(r.Judged.Reads) / r.Took.Seconds()
	if sum.Reads > 0 {
		r.LocalHits = float64(sum.LocalHits) / float64(sum.Reads)
		r.RemoteHits = float64(sum.RemoteHits) / float64(sum.Reads)
		r.Commands = float64(sum.Commands) / float64(sum.Reads)
	}
	r.Loads, r.LoadTook = src.Loads()
}

func (r *Report) print(p *ui.Printer) {
	sum := fleet.Sum(r.Totals)
	p.Line("")
	p.Fact("reads", ui.Count(sum.Reads), fmt.Sprintf("%s a second, for %s", ui.Count(int(r.ReadRate)), ui.Duration(r.Took)))
	p.Fact("  answered by L1", ui.Percent(sum.LocalHits, sum.Reads), ui.Count(sum.LocalHits))
	p.Fact("  answered by L2", ui.Percent(sum.RemoteHits, sum.Reads), ui.Count(sum.RemoteHits))
	p.Fact("  shared with another reader", ui.Percent(sum.Joined, sum.Reads), ui.Count(sum.Joined)+", one read or load for all")
	p.Fact("  loaded from the source", ui.Percent(sum.Loads, sum.Reads),
		fmt.Sprintf("%s, %s on average", ui.Count(sum.Loads), ui.Duration(r.LoadTook)))
	p.Fact("Redis commands for each read", fmt.Sprintf("%.3f", r.Commands), "writes included, heartbeats not")
	p.Fact("writes", ui.Count(r.Writes.Invalidates+r.Writes.Sets),
		fmt.Sprintf("%s Invalidates, %s Sets, %s repeated", ui.Count(r.Writes.Invalidates), ui.Count(r.Writes.Sets), ui.Count(r.Writes.Repeated)))
	fleet.PrintTally(p, &r.Judged)
	p.Line("")
	fleet.PrintTotals(p, r.Totals)
	p.Line("")
}
