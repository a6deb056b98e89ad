//go:build linux

package scale

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/partition"
	"github.com/tandemcache/tandem/remote"
	"github.com/tandemcache/tandem/tests/redisserver"
	"github.com/tandemcache/tandem/tests/scale/internal/fleet"
	"github.com/tandemcache/tandem/tests/scale/internal/meter"
	"github.com/tandemcache/tandem/tests/scale/internal/sizing"
)

const cacheName = "scale"

// nodeTimeout is Redis' own default: on a machine with too much to do a figure is wanted, and no failover.
const nodeTimeout = 15 * time.Second

// clusterConfig is so many instances, on keys in so many partitions, on so many masters.
type clusterConfig struct{ instances, partitions, masters int }

func (c clusterConfig) String() string {
	return fmt.Sprintf("%d/%d/%d", c.instances, c.partitions, c.masters)
}

func clusterConfigs(t *testing.T, list string) []clusterConfig {
	t.Helper()
	var out []clusterConfig
	for text := range strings.SplitSeq(list, ",") {
		if text == "" {
			continue
		}
		var c clusterConfig
		_, err := fmt.Sscanf(text, "%d/%d/%d", &c.instances, &c.partitions, &c.masters)
		require.NoError(t, err, "%q is not instances/partitions/masters", text)
		out = append(out, c)
	}
	return out
}

// clusterCost is what instances cost on each master, and in their own processes.
type clusterCost struct {
	clusterConfig

	spread     []int // partitions of each master
	asked      int   // the one that has the number of partitions
	empty      []meter.Used
	start      []meter.Used // until all are ready
	rest       []meter.Used // while nothing is asked
	fan        []meter.Used // while one of them invalidates
	sent       fleet.Sent
	memory     []float64 // more than before
	conns      []float64
	goroutines float64
	heap       float64
	own        time.Duration // CPU of the processes at rest
}

// TestCluster measures what instances cost the masters of a cluster, and from that what one more of each costs.
func TestCluster(t *testing.T) {
	redisserver.Need(t)
	var costs []clusterCost
	for _, cfg := range clusterConfigs(t, *clusters) {
		costs = append(costs, measureCluster(t, cfg))
	}
	printCluster(t, costs)
	u := loadUnits(t)
	fitCluster(&u, costs)
	var held []clusterCost
	for _, cfg := range clusterConfigs(t, *heldOut) {
		held = append(held, measureCluster(t, cfg))
	}
	if len(held) > 0 {
		printCluster(t, held)
		comparePlans(t, u, held)
	}
	saveUnits(t, u)
}

// measureCluster starts a cluster of its own, and the instances on it.
func measureCluster(t *testing.T, cfg clusterConfig) clusterCost {
	t.Helper()
	ctx := t.Context()
	cluster := redisserver.RunCluster(t, redisserver.ClusterOptions{Masters: cfg.masters, Replicas: -1, NodeTimeout: nodeTimeout})
	c := clusterCost{clusterConfig: cfg}
	var err error
	c.spread, err = sizing.Spread(cfg.partitions, cfg.masters)
	require.NoError(t, err)
	keys, err := remote.ClusterKeys(cacheName, divided(t, cfg.partitions))
	require.NoError(t, err)
	c.asked = partition.Slot(keys.Layout()) * cfg.masters / partition.Slots
	servers := metersOf(t, cluster)
	rest := func() error {
		time.Sleep(*window)
		return nil
	}
	c.empty, err = meter.Window(ctx, servers, rest)
	require.NoError(t, err)
	before := memoryOf(t, servers)
	var f processesOf
	c.start, err = meter.Window(ctx, servers, func() error {
		f = startFleet(t, fleet.Config{
			Cluster: cluster.Addrs(), Partitions: cfg.partitions, Cache: cacheName, LocalBytes: 1 << 20, MaxStaleness: *staleness,
		}, cfg.instances, *processes)
		return nil
	})
	require.NoError(t, err)
	s := f.look(t)
	c.heap, c.goroutines = float64(s.Heap), float64(s.Goroutines)
	own := f.cpu(t)
	c.rest, err = meter.Window(ctx, servers, rest)
	require.NoError(t, err)
	c.own = f.cpu(t) - own
	for i, m := range memoryOf(t, servers) {
		c.memory = append(c.memory, m-before[i])
	}
	for _, s := range servers {
		clients, err := s.Clients(ctx)
		require.NoError(t, err)
		c.conns = append(c.conns, float64(clients.Count-1))
	}
	c.invalidate(t, f, servers)
	f.close(t)
	require.NoError(t, cluster.Close())
	c.judge(t)
	return c
}

// invalidate has one instance invalidate keys of all partitions, and waits until each has heard of each once.
func (c *clusterCost) invalidate(t *testing.T, f processesOf, servers []*meter.Server) {
	t.Helper()
	before := f.look(t)
	var err error
	c.fan, err = meter.Window(t.Context(), servers, func() (err error) {
		c.sent, err = f[0].Storm(fleet.Storm{For: *window, Goroutines: 1, Keys: 1, Rate: *invalidates, Distinct: 10_000})
		return err
	})
	require.NoError(t, err)
	var s fleet.State
	require.Eventually(t, func() bool {
		s = f.look(t)
		return s.Sessions != before.Sessions || s.Received >= before.Received+c.sent.Keys*uint64(c.instances)
	}, patience, 50*time.Millisecond, "every instance hears every invalidation")
	// Not require: on a machine with too much to do the figures are worth seeing all the same.
	assert.Zero(t, c.sent.Errors, "Invalidates that were not confirmed, %v", c.clusterConfig)
	assert.Equal(t, before.Sessions, s.Sessions, "an instance has lost a connection, %v", c.clusterConfig)
	assert.Equal(t, before.Received+c.sent.Keys*uint64(c.instances), s.Received, "each is heard once, %v", c.clusterConfig)
	require.Eventually(t, func() bool { return f.look(t).Trusted == c.instances }, patience, 50*time.Millisecond)
}

const (
	// mostConnections are those of an instance to a node: two pools, one of them not used here, and a subscription.
	mostConnections = 4
	// mostBeats is how many heartbeats may go out within a bound.
	mostBeats = 3.5
)

// judge looks at what does not depend on speed.
func (c *clusterCost) judge(t *testing.T) {
	t.Helper()
	for i := range c.rest {
		assert.LessOrEqual(t, c.conns[i], float64(mostConnections*c.instances), "connections of node %d, %v", i, c.clusterConfig)
		assert.Positive(t, c.rest[i].Sharded, "heartbeats on node %d, %v", i, c.clusterConfig)
		assert.LessOrEqual(t, c.beats(i), mostBeats*float64(c.instances)/staleness.Seconds()+1, "heartbeats on node %d, %v", i, c.clusterConfig)
		assert.Zero(t, c.fan[i].Published, "nothing is copied over the cluster's bus, %v", c.clusterConfig)
	}
}

func divided(t *testing.T, partitions int) partition.Table {
	t.Helper()
	table, err := partition.New(partitions)
	require.NoError(t, err)
	return table
}

func perSecond(u meter.Used, x float64) float64 { return x / u.Time.Seconds() }

// beats returns how many heartbeats a second a node gets: each publishes once there.
func (c *clusterCost) beats(node int) float64 { return perSecond(c.rest[node], c.rest[node].Sharded) }

func cpuOf(u meter.Used) float64 { return u.CPU.Seconds() / u.Time.Seconds() }

// net returns the share of a core that instances at rest take of a node.
func (c *clusterCost) net(node int) float64 { return cpuOf(c.rest[node]) - cpuOf(c.empty[node]) }

// beatMicros returns a node's CPU for a heartbeat.
func (c *clusterCost) beatMicros(node int) float64 { return c.net(node) / c.beats(node) * 1e6 }

// fanMicros returns the CPU of all nodes for an Invalidate, that of the heartbeats meanwhile taken off.
func (c *clusterCost) fanMicros() float64 {
	used := 0.0
	for i := range c.fan {
		used += c.fan[i].CPU.Seconds() - cpuOf(c.rest[i])*c.fan[i].Time.Seconds()
	}
	return used / float64(c.sent.Calls) * 1e6
}

// ownMicros returns the CPU of an instance for a heartbeat to one node.
func (c *clusterCost) ownMicros() float64 {
	beats := 0.0
	for _, u := range c.rest {
		beats += u.Sharded
	}
	return c.own.Seconds() / beats * 1e6
}

func printCluster(t *testing.T, costs []clusterCost) {
	t.Helper()
	nodes := table{{
		"instances", "partitions", "masters", "node", "its partitions", "heartbeats/s", "scripts/s", "commands/s", "Redis CPU, % of a core",
		"less an empty node's", "µs CPU a heartbeat", "in, KiB/s", "out, KiB/s", "connections", "memory, KiB an instance",
	}}
	fan := table{{
		"instances", "partitions", "masters", "Invalidates/s", "messages delivered/s", "Redis CPU, µs an Invalidate, all nodes", "µs a message",
	}}
	own := table{{
		"instances", "partitions", "masters", "goroutines each", "heap, KiB each", "CPU, % of a core each", "µs a heartbeat to one node",
		"all ready after, s", "commands for it each", "published for it each",
	}}
	for i := range costs {
		c := &costs[i]
		n := float64(c.instances)
		for i, u := range c.rest {
			name := fmt.Sprint(i + 1)
			if i == c.asked {
				name += ", layout"
			}
			nodes.add(c.instances, c.partitions, c.masters, name, c.spread[i], c.beats(i), perSecond(u, u.Beats), perSecond(u, u.Commands),
				100*cpuOf(u), 100*c.net(i), c.beatMicros(i), perSecond(u, u.In)/1024, perSecond(u, u.Out)/1024, c.conns[i], c.memory[i]/1024/n)
		}
		calls := float64(c.sent.Calls) / c.sent.Took.Seconds()
		fan.add(c.instances, c.partitions, c.masters, calls, calls*n, c.fanMicros(), c.fanMicros()/n)
		own.add(c.instances, c.partitions, c.masters, c.goroutines/n, c.heap/n/1024,
			100*c.own.Seconds()/c.rest[0].Time.Seconds()/n, c.ownMicros(),
			c.start[0].Time.Seconds(), total(c.start, func(u meter.Used) float64 { return u.Commands })/n,
			total(c.start, func(u meter.Used) float64 { return u.Sharded })/n)
	}
	nodes.print(t)
	fan.print(t)
	own.print(t)
}

func total(all []meter.Used, of func(meter.Used) float64) float64 {
	out := 0.0
	for _, u := range all {
		out += of(u)
	}
	return out
}

// fitCluster makes lines of what was measured.
func fitCluster(u *sizing.Units, costs []clusterCost) {
	var beat, own, in, out, tell, memory []sizing.Point
	var goroutines, heap []sizing.Sample
	var beats, conns []float64
	for i := range costs {
		c := &costs[i]
		n := float64(c.instances)
		parts := 0.0
		for i, used := range c.rest {
			x := float64(c.spread[i])
			parts += x
			empty := c.empty[i]
			if i != c.asked {
				beat = append(beat, sizing.Point{X: x, Y: c.beatMicros(i)})
			}
			in = append(in, sizing.Point{X: x, Y: (perSecond(used, used.In) - perSecond(empty, empty.In)) / c.beats(i)})
			out = append(out, sizing.Point{X: x, Y: (perSecond(used, used.Out) - perSecond(empty, empty.Out)) / c.beats(i)})
			memory = append(memory, sizing.Point{X: x, Y: c.memory[i] / n})
			beats = append(beats, c.beats(i)/n*staleness.Seconds())
			conns = append(conns, c.conns[i]/n)
		}
		masters := float64(c.masters)
		own = append(own, sizing.Point{X: parts / masters, Y: c.ownMicros()})
		tell = append(tell, sizing.Point{X: n, Y: c.fanMicros()})
		goroutines = append(goroutines, sizing.Sample{Nodes: c.masters, Partitions: c.partitions, Y: c.goroutines / n})
		heap = append(heap, sizing.Sample{Nodes: c.masters, Partitions: c.partitions, Y: c.heap / n})
	}
	u.Beat, u.OwnBeat, u.In, u.Out = sizing.Fit(beat), sizing.Fit(own), sizing.Fit(in), sizing.Fit(out)
	var looks []float64
	for i := range costs {
		c := &costs[i]
		looks = append(looks, max(0, c.beatMicros(c.asked)-u.Beat.At(float64(c.spread[c.asked]))))
	}
	u.Look = median(looks)
	u.Invalidate, u.Memory = sizing.Fit(tell), sizing.Fit(memory)
	u.Goroutines, u.Heap = sizing.FitPlane(goroutines), sizing.FitPlane(heap)
	u.BeatsPerBound, u.Connections = median(beats), median(conns)
}

// comparePlans prints what is reckoned of instances that no line was made of, beside what was measured.
func comparePlans(t *testing.T, u sizing.Units, costs []clusterCost) {
	t.Helper()
	out := table{{"instances", "partitions", "masters", "of the busiest node", "reckoned", "measured", "measured to reckoned"}}
	for i := range costs {
		c := &costs[i]
		n, err := u.Busiest(sizing.Plan{Instances: c.instances, Masters: c.masters, Partitions: c.partitions, Staleness: *staleness})
		require.NoError(t, err)
		busiest := 0
		for node, parts := range c.spread {
			if parts > c.spread[busiest] {
				busiest = node
			}
		}
		for _, line := range []struct {
			what               string
			reckoned, measured float64
		}{
			{"heartbeats/s", n.Beats, c.beats(busiest)},
			{"CPU at rest, % of a core", 100 * n.Rest, 100 * c.net(busiest)},
			{"µs an Invalidate", float64(n.Tell) / float64(time.Microsecond), c.fanMicros()},
			{"connections", n.Connections, c.conns[busiest]},
			{"memory of instances, MiB", n.Overhead / (1 << 20), c.memory[busiest] / (1 << 20)},
		} {
			out.add(c.instances, c.partitions, c.masters, line.what, line.reckoned, line.measured, line.measured/line.reckoned)
		}
	}
	out.print(t)
}

func metersOf(t *testing.T, cluster *redisserver.Cluster) []*meter.Server {
	t.Helper()
	var servers []*meter.Server
	for _, n := range cluster.Nodes() {
		s, err := meter.NewServer(t.Context(), n.Client())
		require.NoError(t, err)
		servers = append(servers, s)
	}
	return servers
}

func memoryOf(t *testing.T, servers []*meter.Server) []float64 {
	t.Helper()
	out := make([]float64, len(servers))
	for i, s := range servers {
		var err error
		out[i], err = s.Memory(t.Context())
		require.NoError(t, err)
	}
	return out
}
