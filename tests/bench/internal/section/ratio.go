package section

import (
	"context"
	"errors"
	"fmt"

	"github.com/tandemcache/tandem/tests/bench/internal/measure"
	"github.com/tandemcache/tandem/tests/bench/internal/peers"
	"github.com/tandemcache/tandem/tests/bench/internal/report"
	"github.com/tandemcache/tandem/tests/bench/internal/trace"
)

// shares are the sizes of the caches, in per cent of the distinct ids.
var shares = []int{1, 5, 20}

// ratioRounds bounds the rounds: a replay hardly differs from the one before, and takes long.
const ratioRounds = 3

// HitRatio compares what first tiers of one size keep of a trace.
func HitRatio(ctx context.Context, cfg Config) (Result, error) {
	traces := []trace.Trace{}
	if cfg.Traces == "" {
		traces = append(traces, trace.Synthetic())
	} else {
		var err error
		if traces, err = trace.Directory(cfg.Traces); err != nil {
			return Result{}, err
		}
	}
	return hitRatio(ctx, cfg, traces)
}

func hitRatio(ctx context.Context, cfg Config, traces []trace.Trace) (Result, error) {
	table := report.Table{
		Title:  "Hit ratio of L1, per cent",
		Header: []string{"trace", "entries"},
		Notes: []string{
			"Each access looks for an id and puts it in if it is not there, one after the other, from the first access on. Entries are 1, 5 and 20 per cent of the distinct ids.",
		},
	}
	for _, peer := range peers.Keepers() {
		table.Header = append(table.Header, peer.Name)
		table.Notes = append(table.Notes, peer.Name+": "+peer.Asked+".")
	}
	for _, t := range traces {
		for _, share := range shares {
			entries := max(t.Distinct*share/100, 1)
			cells := []string{t.Name, fmt.Sprintf("%s (%d %%)", report.Integer(entries), share)}
			for _, peer := range peers.Keepers() {
				ratio, err := replays(ctx, cfg, peer, t, entries)
				if err != nil {
					return Result{}, fmt.Errorf("%s, %s: %w", t.Name, peer.Name, err)
				}
				cells = append(cells, report.Percent(ratio))
			}
			table.Add(cells...)
		}
	}
	return Result{Tables: []report.Table{table}}, nil
}

// replays returns the median of the ratios of some replays, each of a new cache.
func replays(ctx context.Context, cfg Config, peer peers.KeeperPeer, t trace.Trace, entries int) (float64, error) {
	var ratios []float64
	for round := range min(cfg.Rounds, ratioRounds) {
		cfg.logf("hit ratio: %s, %d entries, round %d: %s", t.Name, entries, round+1, peer.Name)
		if err := flush(ctx, cfg.Addr); err != nil {
			return 0, err
		}
		ratio, err := replay(ctx, cfg.Addr, peer, t, entries)
		if err != nil {
			return 0, err
		}
		ratios = append(ratios, ratio)
	}
	return measure.Median(ratios), nil
}

func replay(ctx context.Context, addr string, peer peers.KeeperPeer, t trace.Trace, entries int) (ratio float64, err error) {
	keeper, err := peer.Open(addr, entries)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, keeper.Close()) }()
	hits := 0
	for _, id := range t.IDs {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		hit, err := keeper.Touch(id)
		if err != nil {
			return 0, err
		}
		if hit {
			hits++
		}
	}
	return float64(hits) / float64(len(t.IDs)), nil
}
