//go:build linux

package scale

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/redisserver"
	"github.com/tandemcache/tandem/tests/scale/internal/meter"
	"github.com/tandemcache/tandem/tests/scale/internal/sizing"
	"github.com/tandemcache/tandem/tiered"
)

const (
	spreadMasters    = 6
	spreadPartitions = tiered.DefaultPartitions
	// spreadBound is how many times the mean the busiest master may hold.
	spreadBound   = 1.15
	spreadWriters = 4
	spreadStored  = 500 // with one call
	spreadRead    = 100 // likewise
	// The values: as many of each length.
	spreadLeast, spreadMost = 32, 288
)

// spreadKey is the i-th key.
func spreadKey(i int) string { return fmt.Sprintf("user:%08d", i) }

func spreadValue(i int) []byte {
	return make([]byte, spreadLeast+int(uint32(i)*2654435761>>16)%(spreadMost-spreadLeast+1)) // a hash of i, so that neighbours differ
}

// TestSpread stores keys in a cluster of six masters and looks at what each of them holds.
func TestSpread(t *testing.T) {
	redisserver.Need(t)
	ctx := t.Context()
	cluster := redisserver.RunCluster(t, redisserver.ClusterOptions{Masters: spreadMasters, Replicas: -1, NodeTimeout: nodeTimeout})
	servers := metersOf(t, cluster)
	rdb := cluster.Client()
	c, err := tiered.New(rdb, "spread", tiered.Options[[]byte]{
		TTL: 24 * time.Hour, LocalTTL: tiered.Off, MaxStaleness: *staleness, RedisTimeout: 20 * time.Second, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	require.NoError(t, c.Ready(ctx))
	rest, err := meter.Window(ctx, servers, func() error {
		time.Sleep(time.Second)
		return nil
	})
	require.NoError(t, err)
	memory, keys := memoryOf(t, servers), keysOf(t, servers)

	stored, err := meter.Window(ctx, servers, func() error {
		return inChunks(*spreadKeys, spreadStored, func(first, last int) error {
			values := make(map[string][]byte, last-first)
			for i := first; i < last; i++ {
				values[spreadKey(i)] = spreadValue(i)
			}
			return c.SetMany(ctx, values)
		})
	})
	require.NoError(t, err)
	for i, m := range memoryOf(t, servers) {
		memory[i] = m - memory[i]
	}
	for i, n := range keysOf(t, servers) {
		keys[i] = n - keys[i]
	}
	require.InDelta(t, *spreadKeys, sum(keys), 0, "every key is on one master")

	var found atomic.Int64
	read, err := meter.Window(ctx, servers, func() error {
		return inChunks(min(*spreadKeys, 200_000), spreadRead, func(first, last int) error {
			names := make([]string, 0, last-first)
			for i := first; i < last; i++ {
				names = append(names, spreadKey(i))
			}
			values, err := c.GetMany(ctx, names)
			found.Add(int64(len(values)))
			return err
		})
	})
	require.NoError(t, err)
	require.NoError(t, c.Close())

	bytes := 0
	for i := range *spreadKeys {
		bytes += len(spreadKey(i)) + len(spreadValue(i))
	}
	u := loadUnits(t)
	u.Entry = (sum(memory) - float64(bytes)) / float64(*spreadKeys)
	u.Store = workOf(stored, rest) / float64(*spreadKeys) * 1e6
	u.Read = workOf(read, rest) / float64(found.Load()) * 1e6
	printSpread(t, u, keys, memory, float64(bytes))
	saveUnits(t, u)

	require.LessOrEqual(t, busiest(keys), spreadBound, "keys of the busiest master to the mean")
	require.LessOrEqual(t, busiest(memory), spreadBound, "bytes likewise")
}

func printSpread(t *testing.T, u sizing.Units, keys, memory []float64, bytes float64) {
	t.Helper()
	spread, err := sizing.Spread(spreadPartitions, spreadMasters)
	require.NoError(t, err)
	out := table{{"master", "partitions", "keys", "to the mean", "memory, MiB", "to the mean"}}
	for i := range keys {
		out.add(i+1, spread[i], int(keys[i]), keys[i]/mean(keys), memory[i]/(1<<20), memory[i]/mean(memory))
	}
	out.add("busiest", "", "", fmt.Sprintf("%.3f (at most %.2f)", busiest(keys), spreadBound), "",
		fmt.Sprintf("%.3f (at most %.2f)", busiest(memory), spreadBound))
	out.print(t)
	entry := table{{"bytes of key and value, mean", "bytes beside them", "µs CPU an entry stored", "µs CPU an entry read"}}
	entry.add(bytes/float64(*spreadKeys), u.Entry, u.Store, u.Read)
	entry.print(t)
}

// inChunks calls f for parts of 0 to n, from several goroutines.
func inChunks(n, chunk int, f func(first, last int) error) error {
	var next atomic.Int64
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var all sync.WaitGroup
	for range spreadWriters {
		all.Go(func() {
			for ctx.Err() == nil {
				first := int(next.Add(int64(chunk))) - chunk
				if first >= n {
					return
				}
				if err := f(first, min(first+chunk, n)); err != nil {
					cancel(err)
				}
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// workOf returns the CPU seconds of all nodes, what they use at rest taken off.
func workOf(used, rest []meter.Used) float64 {
	work := 0.0
	for i, u := range used {
		work += u.CPU.Seconds() - cpuOf(rest[i])*u.Time.Seconds()
	}
	return work
}

func keysOf(t *testing.T, servers []*meter.Server) []float64 {
	t.Helper()
	out := make([]float64, len(servers))
	for i, s := range servers {
		var err error
		out[i], err = s.Keys(t.Context())
		require.NoError(t, err)
	}
	return out
}

func sum(x []float64) float64 {
	total := 0.0
	for _, one := range x {
		total += one
	}
	return total
}

func mean(x []float64) float64 { return sum(x) / float64(len(x)) }

// busiest returns the largest to the mean.
func busiest(x []float64) float64 {
	most := 0.0
	for _, one := range x {
		most = max(most, one)
	}
	return most / mean(x)
}
