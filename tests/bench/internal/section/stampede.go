package section

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tandemcache/tandem/tests/bench/internal/measure"
	"github.com/tandemcache/tandem/tests/bench/internal/peers"
	"github.com/tandemcache/tandem/tests/bench/internal/report"
	"github.com/tandemcache/tandem/tests/bench/internal/workload"
)

const (
	herd     = 1000
	slowLoad = 20 * time.Millisecond
)

// Stampede compares how long many readers of one cold key wait, and how often it is loaded for them.
func Stampede(ctx context.Context, cfg Config) (result Result, err error) {
	if err := flush(ctx, cfg.Addr); err != nil {
		return Result{}, err
	}
	list := peers.Stampede()
	longest := make([]atomic.Int64, len(list)) // nanoseconds of the slowest load of the round
	all, err := open(cfg.Addr, list, func(c *contestant) peers.LoadFunc {
		slowest := &longest[index(list, c.name)]
		return func(key string) (workload.User, error) {
			began := time.Now()
			time.Sleep(slowLoad)
			u, err := c.load(key)
			raise(slowest, int64(time.Since(began)))
			return u, err
		}
	})
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, all.close()) }()

	wall, ratio, loads := map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
	err = measure.Rounds(cfg.Rounds, len(all), func(round, i int) error {
		c := all[i]
		cfg.logf("stampede: round %d of %d: %s", round+1, cfg.Rounds, c.name)
		if err := ctx.Err(); err != nil {
			return err
		}
		before := c.loads.Load()
		longest[i].Store(0)
		took, err := c.stampede(fmt.Sprintf("cold:%d:%d:user:1", i, round))
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		wall[c.name] = append(wall[c.name], float64(took)/float64(time.Millisecond))
		ratio[c.name] = append(ratio[c.name], float64(took)/float64(longest[i].Load()))
		loads[c.name] = append(loads[c.name], float64(c.loads.Load()-before))
		return nil
	})
	if err != nil {
		return Result{}, err
	}
	table := report.Table{
		Title:  fmt.Sprintf("Stampede: %d readers, one cold key, a load of %v", herd, slowLoad),
		Header: []string{"", "wall, ms", "ratio to the load", "loads"},
		Notes: []string{
			"Wall time is from the release of all readers to the return of the last one. The ratio is to what the slowest load itself took.",
			"One process: who tells no other process loads once in each of them.",
		},
	}
	for _, c := range all {
		table.Add(c.name, report.Number(measure.Median(wall[c.name])), report.Number(measure.Median(ratio[c.name])),
			report.Count(measure.Median(loads[c.name])))
	}
	table.Notes = append(table.Notes, asked(list)...)
	return Result{Tables: []report.Table{table}}, nil
}

// stampede reads one key from a herd of goroutines that begin together.
func (c *contestant) stampede(key string) (time.Duration, error) {
	var readers, ready sync.WaitGroup
	begin := make(chan struct{})
	failed := make([]error, herd)
	ready.Add(herd)
	for i := range herd {
		readers.Go(func() {
			ready.Done()
			<-begin
			failed[i] = c.check(key)
		})
	}
	ready.Wait()
	start := time.Now()
	close(begin)
	readers.Wait()
	return time.Since(start), errors.Join(failed...)
}

func index(list []peers.Peer, name string) int {
	for i, p := range list {
		if p.Name == name {
			return i
		}
	}
	return -1
}

func raise(highest *atomic.Int64, to int64) {
	for now := highest.Load(); to > now && !highest.CompareAndSwap(now, to); now = highest.Load() {
	}
}
