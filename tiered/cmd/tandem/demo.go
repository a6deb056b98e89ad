package main

import (
	"context"
	"flag"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/tandemcache/tandem/tiered"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/demo"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/replay"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/target"
)

const (
	demoLoad   = 20 * time.Millisecond
	replayLoad = 200 * time.Microsecond
)

func demoCommand() *command {
	return &command{
		name: "demo", args: "[-trace FILE]", short: "watch a fleet keep its promises, in half a minute",
		long: `
Runs several instances of one cache on one Redis, in this process unless -redis names another, and
shows what they do: one load for a burst of readers, what a hit costs, how fast a change is seen, a
late load refused, and subscribers that lose their connection. Everything shown is measured; the
exit code is 1 if anything was not as the library promises.

With -trace it replays a recorded sequence of accesses instead (one decimal id a line, gzip or
plain), with writes mixed in, and judges every value read against the source. On the instance that
wrote, a read that starts after the write returned must be new; elsewhere, one that starts more than
-max-staleness later. One write in four is a Set, the others are Invalidates; the access itself is a
read right after it.

On a real Redis, the cache has a name of its own, and what was stored is removed in the end.`,
		setup: setupDemo,
	}
}

// These are the flags that one mode alone heeds.
var (
	stepFlags  = []string{"readers", "samples", "rounds", "cuts", "silences"}
	traceFlags = []string{"workers", "writes", "limit", "local-bytes"}
)

// demoFlags are both modes' flags.
type demoFlags struct {
	flags        *flag.FlagSet
	server       redisFlags
	asJSON       bool
	verbose      bool
	instances    int
	load         time.Duration
	maxStaleness time.Duration

	readers, samples, rounds, cuts, silences int

	trace      string
	workers    int
	writes     float64
	limit      int
	localBytes int64
}

func setupDemo(flags *flag.FlagSet) runFunc {
	f := demoFlags{flags: flags}
	f.server.define(flags, "", "a real Redis instead of one in this process")
	flags.BoolVar(&f.asJSON, "json", false, "write one JSON document and nothing else")
	flags.BoolVar(&f.verbose, "v", false, "write the caches' log to stderr")
	flags.IntVar(&f.instances, "instances", 3, "`n` instances of the cache")
	flags.DurationVar(&f.load, "load", 0, "what a load takes the source (default 20ms, or 200µs with -trace)")
	flags.DurationVar(&f.maxStaleness, "max-staleness", tiered.DefaultMaxStaleness, "the cache's MaxStaleness")

	flags.IntVar(&f.readers, "readers", 1000, "`n` readers of the burst")
	flags.IntVar(&f.samples, "samples", 2000, "`n` hits in L2 to measure")
	flags.IntVar(&f.rounds, "rounds", 200, "`n` invalidations to measure")
	flags.IntVar(&f.cuts, "cuts", 20, "`n` connections to close")
	flags.IntVar(&f.silences, "silences", 3, "`n` connections to keep open with nothing arriving")

	flags.StringVar(&f.trace, "trace", "", "replay the accesses in this `file`")
	flags.IntVar(&f.workers, "workers", 4, "with -trace: `n` goroutines for each instance")
	flags.Float64Var(&f.writes, "writes", 1, "with -trace: `percent` of the accesses that come with a write")
	flags.IntVar(&f.limit, "limit", 0, "with -trace: `n` accesses to replay at most (default all)")
	flags.Int64Var(&f.localBytes, "local-bytes", tiered.DefaultLocalBytes, "with -trace: budget of each L1 in `bytes`, 1 MiB or more")
	return f.run
}

func (f *demoFlags) run(ctx context.Context, s streams, args []string) error {
	if len(args) > 0 {
		return usagef("it takes no arguments, got %q", args[0])
	}
	if f.maxStaleness < 50*time.Millisecond || f.maxStaleness > time.Minute {
		return usagef("-max-staleness is %v, must be from 50ms to 1m", f.maxStaleness)
	}
	if err := f.checkMode(); err != nil {
		return err
	}
	logger := slog.New(slog.DiscardHandler)
	if f.verbose {
		logger = slog.New(slog.NewTextHandler(s.err, nil))
	}
	if f.trace != "" {
		return f.replay(ctx, s, logger)
	}
	cfg := demo.Config{
		Instances: f.instances, Load: f.loadOr(demoLoad),
		Readers: f.readers, Samples: f.samples, Rounds: f.rounds, Cuts: f.cuts, Silences: f.silences,
		MaxStaleness: f.maxStaleness, Logger: logger,
	}
	if err := cfg.Validate(); err != nil {
		return usageError{err}
	}
	var err error
	if cfg.Redis, err = f.find(ctx); err != nil {
		return err
	}
	report, err := demo.Run(ctx, cfg, f.forPeople(s))
	return f.finish(s, report, err)
}

func (f *demoFlags) replay(ctx context.Context, s streams, logger *slog.Logger) error {
	if f.limit < 0 {
		return usagef("-limit is %d, must not be negative", f.limit)
	}
	cfg := replay.Config{
		Instances: f.instances, Workers: f.workers, Writes: f.writes, Load: f.loadOr(replayLoad),
		MaxStaleness: f.maxStaleness, LocalBytes: f.localBytes, Logger: logger,
	}
	if err := cfg.Validate(); err != nil {
		return usageError{err}
	}
	var err error
	if cfg.Redis, err = f.find(ctx); err != nil {
		return err
	}
	if cfg.Trace, err = replay.Open(f.trace, f.limit); err != nil {
		return err
	}
	report, err := replay.Run(ctx, cfg, f.forPeople(s))
	return f.finish(s, report, err)
}

// checkMode returns an error for a flag that would have no effect.
func (f *demoFlags) checkMode() (err error) {
	f.flags.Visit(func(given *flag.Flag) {
		switch {
		case f.trace != "" && slices.Contains(stepFlags, given.Name):
			err = usagef("-%s has no effect with -trace", given.Name)
		case f.trace == "" && slices.Contains(traceFlags, given.Name):
			err = usagef("-%s has no effect without -trace", given.Name)
		case f.server.addr == "" && given.Name == "db":
			err = usagef("-db has no effect without -redis")
		}
	})
	return err
}

// find returns the Redis that is given, or nil. What can be said of the command line is said before.
func (f *demoFlags) find(ctx context.Context) (*target.Server, error) {
	if f.server.addr == "" {
		return nil, nil //nolint:nilnil // documented: it is then one in this process
	}
	server, err := f.server.find(ctx)
	return &server, err
}

// loadOr returns what -load says, or other where it is not given.
func (f *demoFlags) loadOr(other time.Duration) time.Duration {
	load := other
	f.flags.Visit(func(given *flag.Flag) {
		if given.Name == "load" {
			load = f.load
		}
	})
	return load
}

func (f *demoFlags) forPeople(s streams) io.Writer {
	if f.asJSON {
		return io.Discard
	}
	return s.out
}

// finish writes the JSON document also of a run that failed: it says so itself.
func (f *demoFlags) finish(s streams, report any, err error) error {
	if !f.asJSON {
		return err
	}
	if writeErr := writeJSON(s, report); writeErr != nil {
		return writeErr
	}
	return err
}
