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
	"github.com/tandemcache/tandem/tests/bench/internal/workload"
	"github.com/tandemcache/tandem/tests/redisserver"
)

const (
	clusterMasters = 3
	// clusterTimeout is Redis' own default: a machine that is busy for some seconds should cost slow reads and not a failed run.
	clusterTimeout = 15 * time.Second

	// together is how many keys a call for several has, and how many are stored at once to be dropped.
	together = 100
)

// The libraries, and where they are at work.
const (
	goRedis   = "go-redis"
	onOne     = "one Redis"
	onCluster = "cluster"
)

// side is the name of a library at work somewhere.
func side(library, where string) string { return library + ", " + where }

// clusterTask is something that all do, on both kinds of Redis.
type clusterTask struct {
	name       string
	goroutines int
	least      int // commands that Redis runs for one; zero where it runs others as well, which are not timed
	take       func(c *contestant, goroutines int) (measure.Cell, error)
}

// clusterTasks are those of a run. The keys are in Redis before the first.
func clusterTasks(cfg Config, keys []string) []clusterTask {
	hit := func(c *contestant, n int) (measure.Cell, error) { return readShares(c, keys, n, cfg.Time) }
	drop := func(n int) func(*contestant, int) (measure.Cell, error) {
		return func(c *contestant, _ int) (measure.Cell, error) { return dropStored(c, n, cfg.Time) }
	}
	chunks := slices.Collect(slices.Chunk(keys, together))
	misses := 0 // turns so far
	return []clusterTask{
		{"L2 hit, one goroutine", 1, 1, hit},
		{"L2 hit, 64 goroutines", 64, 1, hit},
		{fmt.Sprintf("%d keys, all in L2", together), 1, together, func(c *contestant, n int) (measure.Cell, error) {
			return measure.Timed(n, cfg.Time, func(_, i int) error { return readChunk(c, chunks[i%len(chunks)]) })
		}},
		{"miss", 1, 2, func(c *contestant, n int) (measure.Cell, error) {
			misses++
			return missAll(c, fmt.Sprintf("miss:%d", misses), n, cfg.Time)
		}},
		{"drop one key", 1, 0, drop(1)},
		{fmt.Sprintf("drop %d keys", together), 1, 0, drop(together)},
	}
}

func readChunk(c *contestant, chunk []string) error {
	users, err := c.Reader.(peers.Batcher).ReadMany(chunk)
	if err == nil && len(users) != len(chunk) {
		err = fmt.Errorf("%w: %d of %d keys", peers.ErrCold, len(users), len(chunk))
	}
	return err
}

// missAll reads keys for d that begin with prefix, each once.
func missAll(c *contestant, prefix string, goroutines int, d time.Duration) (measure.Cell, error) {
	c.dry.Store(false)
	defer c.dry.Store(true)
	loads := c.loads.Load()
	cell, err := measure.Timed(goroutines, d, func(worker, i int) error {
		_, err := c.Read(fmt.Sprintf("%s:%d:user:%d", prefix, worker, i))
		return err
	})
	if n := int(c.loads.Load() - loads); err == nil && n != cell.Ops {
		err = fmt.Errorf("%d reads, %d loads", cell.Ops, n)
	}
	return cell, err
}

// dropStored drops keys that Redis has, so many with one call, for d. That they are stored before is not timed.
func dropStored(c *contestant, n int, d time.Duration) (measure.Cell, error) {
	keys := make([]string, together)
	for i := range keys {
		keys[i] = "drop:" + workload.Key(int64(i))
	}
	calls := slices.Collect(slices.Chunk(keys, n))
	b := c.Reader.(peers.Batcher)
	return measure.Prepared(d, len(calls), func() error { return b.Store(keys) }, func(i int) error { return b.Drop(calls[i]) })
}

// Cluster compares what libraries do on a cluster with the same on one Redis, all of it in one run.
func Cluster(ctx context.Context, cfg Config) (result Result, err error) {
	if err := flush(ctx, cfg.Addr); err != nil {
		return Result{}, err
	}
	cfg.logf("cluster: starting %d masters", clusterMasters)
	cluster, err := redisserver.StartCluster(redisserver.ClusterOptions{
		Masters: clusterMasters, Replicas: -1, NodeTimeout: clusterTimeout,
	})
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	all, err := openSides(cfg.Addr, cluster.Addrs())
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, all.close()) }()
	keys := workload.Keys(keyCount)
	cfg.logf("cluster: warming")
	for _, c := range all {
		if err := c.storeAll(keys); err != nil {
			return Result{}, err
		}
	}
	if err := all.warm(keys); err != nil {
		return Result{}, err
	}

	counter := countCommands(append(cluster.Addrs(), cfg.Addr)...)
	defer counter.Close()
	tables := newClusterTables()
	for _, task := range clusterTasks(cfg, keys) {
		found := measure.NewMatrix(all.names())
		t := turn{
			what: task.name, take: task.take,
			honest: func(ops int, commands uint64) bool { return commands >= uint64(ops*max(1, task.least)) },
		}
		err := measure.Rounds(cfg.Rounds, len(all), func(round, i int) error {
			cfg.logf("cluster: %s, round %d of %d: %s", task.name, round+1, cfg.Rounds, all[i].name)
			cell, err := t.counted(ctx, cfg, counter, all[i], task.goroutines, keys)
			found.Add(all[i].name, cell)
			return err
		})
		if err != nil {
			return Result{}, err
		}
		tables.add(task, found)
	}
	return Result{Tables: []report.Table{tables.sides, tables.libraries}}, nil
}

// openSides opens every library on one Redis and on a cluster.
func openSides(one string, cluster []string) (contestants, error) {
	plain, tandem := peers.Plain().Open, peers.TandemRemote().Open
	var all contestants
	for _, s := range []struct {
		name  string
		open  func(peers.Setting) (peers.Reader, error)
		where peers.Setting
	}{
		{side(goRedis, onOne), plain, peers.Setting{Addr: one}},
		{side(goRedis, onCluster), plain, peers.Setting{Cluster: cluster}},
		{side(peers.TandemName, onOne), tandem, peers.Setting{Addr: one}},
		{side(peers.TandemName, onCluster), tandem, peers.Setting{Cluster: cluster}},
	} {
		c, err := openOne(peers.Peer{Name: s.name, Open: s.open}, s.where, nil)
		if err != nil {
			return nil, errors.Join(err, all.close())
		}
		all = append(all, c)
	}
	return all, nil
}

// storeAll makes Redis have the users of all keys, as the contestant expects them.
func (c *contestant) storeAll(keys []string) error {
	for chunk := range slices.Chunk(keys, together) {
		if err := c.Reader.(peers.Batcher).Store(chunk); err != nil {
			return fmt.Errorf("storing for %s: %w", c.name, err)
		}
	}
	return nil
}

// clusterTables are a row for each task and library, and one for each task.
type clusterTables struct{ sides, libraries report.Table }

func newClusterTables() *clusterTables {
	return &clusterTables{
		sides: report.Table{
			Title: fmt.Sprintf("Redis Cluster of %d masters, beside one Redis", clusterMasters),
			Header: []string{
				"", "p50 on one, us", "on the cluster", "ratio", "p99 on one, us", "on the cluster", "ratio",
				"thousand/s on one", "on the cluster", "ratio", "commands on one", "on the cluster",
			},
			Notes: []string{
				"Ratios of the cluster to one Redis, for the same library in the same round; of throughput, higher is better, of latencies lower. All share the machine: the cluster's masters have no processor more than the one Redis has.",
				"Commands are those that all servers ran, for a call, with those of scripts and heartbeats. Thousand/s are calls.",
				"drop: keys that were stored a moment before, which is not timed.",
			},
		},
		libraries: report.Table{
			Title:  "tandem beside go-redis, on one Redis and on the cluster",
			Header: []string{"", "p50 on one", "on the cluster", "p99 on one", "on the cluster", "throughput on one", "on the cluster"},
			Notes: []string{
				"Ratios to go-redis with its defaults on the same Redis, Client or ClusterClient.",
				"go-redis: GET and decode; a pipeline of GETs; GET, encode and SET; UNLINK; a pipeline of UNLINKs. It joins no loads and tells no other process.",
				"tandem: Get and GetMany with LocalTTL off; Get of a key that nobody has; Invalidate, which tells every instance. Otherwise with its defaults: staleness rule, heartbeats, leases.",
			},
		},
	}
}

func (t *clusterTables) add(task clusterTask, found *measure.Matrix) {
	for _, library := range []string{goRedis, peers.TandemName} {
		one, cluster := side(library, onOne), side(library, onCluster)
		row := []string{task.name + ": " + library}
		for _, figure := range []func(measure.Cell) float64{p50, p99, thousands} {
			row = append(row, report.Number(found.Median(one, figure)), report.Number(found.Median(cluster, figure)),
				report.Number(found.Ratio(cluster, one, figure)))
		}
		for _, where := range []string{one, cluster} {
			commands := "-"
			if task.least > 0 {
				commands = report.Count(found.Median(where, measure.Cell.CommandsPerOp))
			}
			row = append(row, commands)
		}
		t.sides.Add(row...)
	}
	row := []string{task.name}
	for _, figure := range []func(measure.Cell) float64{p50, p99, thousands} {
		for _, where := range []string{onOne, onCluster} {
			row = append(row, report.Number(found.Ratio(side(peers.TandemName, where), side(goRedis, where), figure)))
		}
	}
	t.libraries.Add(row...)
}

func thousands(c measure.Cell) float64 { return c.PerSecond() / 1000 }
