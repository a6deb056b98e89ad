package section

import (
	"context"
	"errors"
	"fmt"

	"github.com/tandemcache/tandem/tests/bench/internal/measure"
	"github.com/tandemcache/tandem/tests/bench/internal/peers"
	"github.com/tandemcache/tandem/tests/bench/internal/report"
)

var missGoroutines = []int{1, 64}

// Miss compares reads of keys that nobody has, with a source that answers at once.
func Miss(ctx context.Context, cfg Config) (Result, error) {
	var result Result
	list := peers.Miss()
	for _, n := range missGoroutines {
		table, err := missTable(ctx, cfg, list, n)
		if err != nil {
			return Result{}, err
		}
		result.Tables = append(result.Tables, table)
	}
	last := &result.Tables[len(result.Tables)-1]
	last.Notes = append([]string{
		"Every key is read once. Ratios to " + peers.RemoteBaseline + "; of throughput, higher is better, of latencies lower.",
		"Commands sent are round trips; a script is one. Commands run are counted by Redis, with those of scripts and heartbeats.",
		"Only tandem takes a lease before it loads, so that one process of all loads, and what it stores is not older than an invalidation; the others store what they have.",
	}, asked(list)...)
	return result, nil
}

func missTable(ctx context.Context, cfg Config, list []peers.Peer, goroutines int) (table report.Table, err error) {
	if err := flush(ctx, cfg.Addr); err != nil {
		return table, err
	}
	all, err := open(cfg.Addr, list, nil)
	if err != nil {
		return table, err
	}
	defer func() { err = errors.Join(err, all.close()) }()
	counter := countCommands(cfg.Addr)
	defer counter.Close()

	found := measure.NewMatrix(peers.Names(list))
	sent, run := map[string][]float64{}, map[string][]float64{} // commands an operation, by round
	err = measure.Rounds(cfg.Rounds, len(all), func(round, i int) error {
		c := all[i]
		cfg.logf("miss: %s, round %d of %d: %s", Goroutines(goroutines), round+1, cfg.Rounds, c.name)
		cell, before, after, err := missOnce(ctx, cfg, counter, c, goroutines, fmt.Sprintf("%d:%d:%d", goroutines, i, round))
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		found.Add(c.name, cell)
		sent[c.name] = append(sent[c.name], float64(after.sent-before.sent)/float64(cell.Ops))
		run[c.name] = append(run[c.name], float64(after.run-before.run)/float64(cell.Ops))
		return nil
	})
	if err != nil {
		return table, err
	}

	table = report.Table{
		Title:  "Miss, " + Goroutines(goroutines),
		Header: []string{"", "p50, us", "ratio", "p99, us", "ratio", "thousand/s", "ratio", "commands sent", "commands run"},
	}
	for _, name := range found.Names() {
		table.Add(name,
			report.Number(found.Median(name, p50)), report.Number(found.Ratio(name, peers.RemoteBaseline, p50)),
			report.Number(found.Median(name, p99)), report.Number(found.Ratio(name, peers.RemoteBaseline, p99)),
			report.Number(found.Median(name, measure.Cell.PerSecond)/1000),
			report.Number(found.Ratio(name, peers.RemoteBaseline, measure.Cell.PerSecond)),
			report.Count(measure.Median(sent[name])), report.Count(measure.Median(run[name])))
	}
	return table, nil
}

// commands are those of one contestant so far.
type commands struct{ sent, run uint64 }

func missOnce(
	ctx context.Context, cfg Config, counter commandCounter, c *contestant, goroutines int, prefix string,
) (cell measure.Cell, before, after commands, err error) {
	if err = ctx.Err(); err != nil {
		return cell, before, after, err
	}
	if before, err = commandsOf(ctx, counter, c); err != nil {
		return cell, before, after, err
	}
	loads := c.loads.Load()
	cell, err = measure.Timed(goroutines, cfg.Time, func(worker, i int) error {
		return c.check(fmt.Sprintf("%s:%d:user:%d", prefix, worker, i))
	})
	if err == nil && int(c.loads.Load()-loads) != cell.Ops {
		err = fmt.Errorf("%d reads, %d loads", cell.Ops, c.loads.Load()-loads)
	}
	if err != nil {
		return cell, before, after, err
	}
	after, err = commandsOf(ctx, counter, c)
	return cell, before, after, err
}

// commandsOf counts what c has sent and what Redis has run for all.
func commandsOf(ctx context.Context, counter commandCounter, c *contestant) (commands, error) {
	run, err := counter.total(ctx)
	if err != nil {
		return commands{}, err
	}
	if own, ok := c.Reader.(peers.Commander); ok {
		return commands{sent: own.Commands(), run: run}, nil
	}
	return commands{sent: run, run: run}, nil
}
