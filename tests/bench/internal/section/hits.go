package section

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tandemcache/tandem/tests/bench/internal/measure"
	"github.com/tandemcache/tandem/tests/bench/internal/peers"
	"github.com/tandemcache/tandem/tests/bench/internal/workload"
)

// Hits are the rounds of one comparison, by the number of goroutines.
type Hits map[int]*measure.Matrix

// LocalHits compares reads that the process answers by itself. It fails if some do not.
func LocalHits(ctx context.Context, cfg Config, list []peers.Peer, goroutines []int) (Hits, error) {
	order := workload.Zipf(workload.Keys(keyCount), 1<<16)
	return hits(ctx, cfg, list, goroutines, turn{
		what: "L1 hit",
		take: func(c *contestant, n int) (measure.Cell, error) { return measure.Reads(c, order, n, cfg.Time) },
		honest: func(ops int, commands uint64) bool {
			return commands <= uint64(ops)/10+1000 // heartbeats, at most
		},
	})
}

// RemoteHits compares reads that go to Redis. It fails if some do not. Every goroutine reads keys of its own: nobody profits
// from joining reads of one key.
func RemoteHits(ctx context.Context, cfg Config, list []peers.Peer, goroutines []int) (Hits, error) {
	return hits(ctx, cfg, list, goroutines, turn{
		what: "L2 hit",
		take: func(c *contestant, n int) (measure.Cell, error) {
			return readShares(c, workload.Keys(keyCount), n, cfg.Time)
		},
		honest: func(ops int, commands uint64) bool { return commands >= uint64(ops) },
	})
}

// readShares reads keys for d, each goroutine its own in turn.
func readShares(c *contestant, keys []string, goroutines int, d time.Duration) (measure.Cell, error) {
	shares := make([][]string, goroutines)
	for worker := range shares {
		shares[worker] = workload.Share(keys, worker, goroutines)
	}
	return measure.Timed(goroutines, d, func(worker, i int) error {
		_, err := c.Read(shares[worker][i%len(shares[worker])])
		return err
	})
}

// turn is what a contestant does in one round.
type turn struct {
	what   string
	take   func(c *contestant, goroutines int) (measure.Cell, error)
	honest func(ops int, commands uint64) bool // whether so many commands in Redis are what it should need
}

func hits(ctx context.Context, cfg Config, list []peers.Peer, goroutines []int, t turn) (found Hits, err error) {
	keys := workload.Keys(keyCount)
	if err := errors.Join(flush(ctx, cfg.Addr), peers.FillRedis(ctx, cfg.Addr, keys)); err != nil {
		return nil, err
	}
	all, err := open(cfg.Addr, list, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, all.close()) }()
	cfg.logf("%s: warming", t.what)
	if err := all.warm(keys); err != nil {
		return nil, err
	}
	counter := countCommands(cfg.Addr)
	defer counter.Close()

	found = Hits{}
	for _, n := range goroutines {
		found[n] = measure.NewMatrix(peers.Names(list))
		err := measure.Rounds(cfg.Rounds, len(all), func(round, i int) error {
			cfg.logf("%s: %s, round %d of %d: %s", t.what, Goroutines(n), round+1, cfg.Rounds, all[i].name)
			cell, err := t.counted(ctx, cfg, counter, all[i], n, keys)
			found[n].Add(all[i].name, cell)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// errOther is returned for a turn in which something else happened than what is measured.
var errOther = errors.New("reads were answered from elsewhere")

// tries is how often a turn is taken until it counts: a cache that drops what it holds when its process was stopped for a
// while may do so in the middle of one.
const tries = 3

// counted takes a turn until it counts. Before another try all keys are read again.
func (t turn) counted(
	ctx context.Context, cfg Config, counter commandCounter, c *contestant, goroutines int, keys []string,
) (measure.Cell, error) {
	cell, err := t.once(ctx, counter, c, goroutines)
	for try := 1; (errors.Is(err, errOther) || errors.Is(err, peers.ErrCold)) && try < tries; try++ {
		cfg.logf("%s: again, as %v", t.what, err)
		if err := c.rewarm(keys); err != nil {
			return cell, err
		}
		cell, err = t.once(ctx, counter, c, goroutines)
	}
	return cell, err
}

// once takes a turn and checks that it is about what it says.
func (t turn) once(ctx context.Context, counter commandCounter, c *contestant, goroutines int) (measure.Cell, error) {
	if err := ctx.Err(); err != nil {
		return measure.Cell{}, err
	}
	before, err := counter.total(ctx)
	if err != nil {
		return measure.Cell{}, err
	}
	cell, err := t.take(c, goroutines)
	if err != nil {
		return cell, fmt.Errorf("%s: %w", c.name, err)
	}
	after, err := counter.total(ctx)
	cell.Commands = after - before
	if err == nil && !t.honest(cell.Ops, cell.Commands) {
		err = fmt.Errorf("%s: %w: %d took %d commands in Redis: that is no %s%s", c.name, errOther, cell.Ops, cell.Commands, t.what, c.state())
	}
	return cell, err
}
