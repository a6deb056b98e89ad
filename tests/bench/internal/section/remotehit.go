package section

import (
	"context"

	"github.com/tandemcache/tandem/tests/bench/internal/measure"
	"github.com/tandemcache/tandem/tests/bench/internal/peers"
	"github.com/tandemcache/tandem/tests/bench/internal/report"
)

var remoteGoroutines = []int{1, 64, 512}

// RemoteHit compares L2 hits.
func RemoteHit(ctx context.Context, cfg Config) (Result, error) {
	list := peers.RemoteHit()
	found, err := RemoteHits(ctx, cfg, list, remoteGoroutines)
	if err != nil {
		return Result{}, err
	}
	var result Result
	for _, n := range remoteGoroutines {
		result.Tables = append(result.Tables, remoteTable(n, found[n]))
	}
	last := &result.Tables[len(result.Tables)-1]
	last.Notes = append([]string{
		"Ratios to " + peers.RemoteBaseline + "; of throughput, higher is better, of latencies lower. Server and client share the machine. Commands are those that Redis ran, a read.",
		"Every goroutine reads keys of its own in turn, so that joining reads of one key helps nobody. All use tandem's codec.",
	}, asked(list)...)
	result.Panels = []report.Panel{remotePanel(found)}
	return result, nil
}

func remoteTable(goroutines int, m *measure.Matrix) report.Table {
	table := report.Table{
		Title:  "L2 hit, " + Goroutines(goroutines),
		Header: []string{"", "p50, us", "ratio", "p99, us", "ratio", "thousand/s", "ratio", "commands"},
	}
	for _, name := range m.Names() {
		table.Add(name,
			report.Number(m.Median(name, p50)), report.Number(m.Ratio(name, peers.RemoteBaseline, p50)),
			report.Number(m.Median(name, p99)), report.Number(m.Ratio(name, peers.RemoteBaseline, p99)),
			report.Number(m.Median(name, measure.Cell.PerSecond)/1000),
			report.Number(m.Ratio(name, peers.RemoteBaseline, measure.Cell.PerSecond)),
			report.Count(m.Median(name, measure.Cell.CommandsPerOp)))
	}
	return table
}

func p50(c measure.Cell) float64 { return c.Micros(50) }

func p99(c measure.Cell) float64 { return c.Micros(99) }

func remotePanel(found Hits) report.Panel {
	names := found[1].Names()
	panel := report.Panel{
		Title: "L2 hit", Axis: "throughput, as a ratio to " + peers.RemoteBaseline + " (right is better)",
		Names: names, Marked: peers.TandemName,
	}
	for _, n := range remoteGoroutines {
		panel.Series = append(panel.Series, series(Goroutines(n), found[n], names, peers.RemoteBaseline, measure.Cell.PerSecond))
	}
	return panel
}
