package section

import (
	"context"
	"fmt"

	"github.com/tandemcache/tandem/tests/bench/internal/measure"
	"github.com/tandemcache/tandem/tests/bench/internal/peers"
	"github.com/tandemcache/tandem/tests/bench/internal/report"
	"github.com/tandemcache/tandem/tests/bench/internal/workload"
)

var localGoroutines = []int{1, 16}

// LocalHit compares L1 hits.
func LocalHit(ctx context.Context, cfg Config) (Result, error) {
	list := peers.LocalHit()
	found, err := LocalHits(ctx, cfg, list, localGoroutines)
	if err != nil {
		return Result{}, err
	}
	table := report.Table{
		Title:  fmt.Sprintf("L1 hit: %d keys, Zipf %v", keyCount, workload.Skew),
		Header: []string{"", "one goroutine, ns", "ratio", "16 goroutines, ns", "ratio", "allocations"},
	}
	serial, parallel := found[1], found[16]
	for _, name := range serial.Names() {
		table.Add(name,
			report.Number(serial.Median(name, measure.Cell.Nanos)),
			report.Number(serial.Ratio(name, peers.LocalBaseline, measure.Cell.Nanos)),
			report.Number(parallel.Median(name, measure.Cell.Nanos)),
			report.Number(parallel.Ratio(name, peers.LocalBaseline, measure.Cell.Nanos)),
			report.Count(serial.Median(name, measure.Cell.AllocsPerOp)))
	}
	table.Notes = append([]string{
		"Wall time per operation; ratios to " + peers.LocalBaseline + ", lower is better. Allocations are those of the whole process, with one goroutine.",
		"All hold the same values and are read in the same order; typed caches return them, caches of bytes decode them.",
	}, asked(list)...)
	return Result{Tables: []report.Table{table}, Panels: []report.Panel{localPanel(found)}}, nil
}

func localPanel(found Hits) report.Panel {
	names := without(found[1].Names(), peers.Empty().Name)
	panel := report.Panel{
		Title: "L1 hit", Axis: "time, as a ratio to " + peers.LocalBaseline + " (left is better)",
		Names: names, Marked: peers.TandemName,
	}
	for _, n := range localGoroutines {
		panel.Series = append(panel.Series, series(Goroutines(n), found[n], names, peers.LocalBaseline, measure.Cell.Nanos))
	}
	return panel
}

func series(label string, m *measure.Matrix, names []string, baseline string, figure func(measure.Cell) float64) report.Series {
	s := report.Series{Name: label}
	for _, name := range names {
		s.Ratios = append(s.Ratios, m.Ratio(name, baseline, figure))
	}
	return s
}

func without(names []string, out string) []string {
	var rest []string
	for _, name := range names {
		if name != out {
			rest = append(rest, name)
		}
	}
	return rest
}

// asked is the fairness note: what each is asked to do.
func asked(list []peers.Peer) []string {
	lines := make([]string, len(list))
	for i, p := range list {
		lines[i] = p.Name + ": " + p.Asked + "."
	}
	return lines
}
