package section

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tandemcache/tandem/tests/bench/internal/measure"
	"github.com/tandemcache/tandem/tests/bench/internal/peers"
	"github.com/tandemcache/tandem/tests/bench/internal/report"
)

// Invalidation compares how long it takes from the start of A's call until B has noticed.
func Invalidation(ctx context.Context, cfg Config) (result Result, err error) {
	if err := flush(ctx, cfg.Addr); err != nil {
		return Result{}, err
	}
	list := peers.Propagation()
	names := make([]string, len(list))
	pairs := make([]peers.Propagator, 0, len(list))
	defer func() {
		for _, p := range pairs {
			err = errors.Join(err, p.Close())
		}
	}()
	for i, peer := range list {
		pair, err := peer.Open(cfg.Addr)
		if err != nil {
			return Result{}, fmt.Errorf("opening %s: %w", peer.Name, err)
		}
		names[i] = peer.Name
		pairs = append(pairs, pair)
	}

	found := measure.NewMatrix(names)
	err = measure.Rounds(cfg.Rounds, len(list), func(round, i int) error {
		cfg.logf("invalidation: round %d of %d: %s", round+1, cfg.Rounds, names[i])
		cell, err := propagate(ctx, pairs[i], cfg.Time)
		if err != nil {
			return fmt.Errorf("%s: %w", names[i], err)
		}
		found.Add(names[i], cell)
		return nil
	})
	if err != nil {
		return Result{}, err
	}
	return Result{Tables: []report.Table{invalidationTable(found, list)}}, nil
}

func invalidationTable(found *measure.Matrix, list []peers.PropagationPeer) report.Table {
	table := report.Table{
		Title:  "Invalidation, from A's call to B",
		Header: []string{"", "p50, us", "ratio", "p99, us", "ratio", "max, us"},
		Notes: []string{
			"Ratios to " + peers.PropagationBaseline + ", lower is better. One change at a time, with nothing else to do.",
		},
	}
	for _, name := range found.Names() {
		table.Add(name,
			report.Number(found.Median(name, p50)), report.Number(found.Ratio(name, peers.PropagationBaseline, p50)),
			report.Number(found.Median(name, p99)), report.Number(found.Ratio(name, peers.PropagationBaseline, p99)),
			report.Number(found.Median(name, func(c measure.Cell) float64 { return c.Micros(100) })))
	}
	for _, peer := range list {
		table.Notes = append(table.Notes, peer.Name+": "+peer.Asked+".")
	}
	return table
}

// lost is when a change that B has not noticed is an error.
const lost = 10 * time.Second

// propagate makes one change after the other for d, and times how long B takes to notice each.
func propagate(ctx context.Context, pair peers.Propagator, d time.Duration) (measure.Cell, error) {
	cell := measure.Cell{Piece: 1}
	start := time.Now()
	for ; time.Since(start) < d; cell.Ops++ {
		if err := ctx.Err(); err != nil {
			return cell, err
		}
		took, err := propagateOnce(pair)
		if err != nil {
			return cell, err
		}
		cell.Latencies = append(cell.Latencies, took)
	}
	cell.Wall = time.Since(start)
	slices.Sort(cell.Latencies)
	return cell, nil
}

func propagateOnce(pair peers.Propagator) (time.Duration, error) {
	if err := pair.Prepare(); err != nil {
		return 0, err
	}
	start := time.Now()
	if err := pair.Change(); err != nil {
		return 0, err
	}
	timer := time.NewTimer(lost)
	defer timer.Stop()
	select {
	case at := <-pair.Noticed():
		return at.Sub(start), nil
	case <-timer.C:
		return 0, fmt.Errorf("no notice of a change within %v", lost)
	}
}
