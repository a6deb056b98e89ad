//go:build linux

package scale

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/redisserver"
	"github.com/tandemcache/tandem/tests/scale/internal/fleet"
	"github.com/tandemcache/tandem/tests/scale/internal/meter"
)

const (
	// linear is how much more an instance may cost among the most instances than among fewer.
	linear = 1.5
	// judged is the shortest window in which CPU time is judged: in a shorter one a neighbour's noise is all of it.
	judged = 5 * time.Second
	// audible is the least CPU time, in per cent of a core, that is compared: a few heartbeats are lost in the rest.
	audible = 1

	patience = 2 * time.Minute
)

// cost is what n instances cost together.
type cost struct {
	n                  int
	rest               meter.Used // while nothing is asked
	fan                meter.Used // while one of them invalidates
	sent               fleet.Sent
	memory, conns, buf float64 // of the server, and of its clients
	heap, goroutines   float64 // of the processes
}

// TestInstances measures what one more instance costs Redis and its own process.
func TestInstances(t *testing.T) {
	redisserver.Need(t)
	empty := measure(t, 0)
	var costs []cost
	for _, n := range numbers(t, *instances) {
		costs = append(costs, measure(t, n))
	}
	printCosts(t, empty, costs)
	for i := 1; i < len(costs); i++ {
		requireLinear(t, empty, costs[i-1], costs[len(costs)-1])
	}
}

// measure starts n instances on a server of their own.
func measure(t *testing.T, n int) cost {
	t.Helper()
	ctx := t.Context()
	srv := redisserver.Run(t, redisserver.Options{})
	m, err := meter.NewServer(ctx, srv.Client())
	require.NoError(t, err)
	before, err := m.Memory(ctx)
	require.NoError(t, err)
	f := startFleet(t, fleet.Config{Redis: srv.Addr(), Cache: "scale", LocalBytes: 1 << 20, MaxStaleness: *staleness}, n, *processes)

	c := cost{n: n}
	s := f.look(t)
	c.heap, c.goroutines = float64(s.Heap), float64(s.Goroutines)
	c.rest, err = m.Window(ctx, func() error {
		time.Sleep(*window)
		return nil
	})
	require.NoError(t, err)
	memory, err := m.Memory(ctx)
	require.NoError(t, err)
	clients, err := m.Clients(ctx)
	require.NoError(t, err)
	c.memory, c.conns, c.buf = memory-before, float64(clients.Count-1), clients.Bytes
	if n > 0 {
		heard := s.Received
		c.fan, err = m.Window(ctx, func() (err error) {
			c.sent, err = f[0].Storm(fleet.Storm{For: *window, Goroutines: 1, Keys: 1, Rate: *invalidates, Distinct: 10_000})
			return err
		})
		require.NoError(t, err)
		require.Zero(t, c.sent.Errors)
		all := uint64(n)
		require.Eventually(t, func() bool {
			s = f.look(t)
			return s.Sessions != all || s.Received == heard+c.sent.Keys*all
		}, patience, 50*time.Millisecond, "every instance hears every invalidation once")
		// Not require: on a machine with too much to do the figures are worth seeing all the same.
		assert.Equal(t, all, s.Sessions, "an instance has lost its connection among %d", n)
		require.Eventually(t, func() bool { return f.look(t).Trusted == n }, patience, 50*time.Millisecond)
	}
	f.close(t)
	require.NoError(t, srv.Close())
	return c
}

// The figures that are to stay as they are, for an instance.
func (c cost) each(total float64) float64 { return total / float64(c.n) }

func (c cost) beats() float64 { return c.rest.Beats / c.rest.Time.Seconds() }

// cpu returns the share of a core that Redis uses at rest, in per cent.
func (c cost) cpu() float64 { return 100 * c.rest.CPU.Seconds() / c.rest.Time.Seconds() }

func (c cost) kernelCPU() float64 { return 100 * c.rest.Own.Seconds() / c.rest.Time.Seconds() }

func (c cost) beatMicros() float64 { return float64(c.rest.BeatTime.Microseconds()) / c.rest.Beats }

// fanMicros returns the CPU time of Redis for one Invalidate, that of the heartbeats meanwhile taken off.
func (c cost) fanMicros() float64 {
	atRest := c.rest.CPU.Seconds() * c.fan.Time.Seconds() / c.rest.Time.Seconds()
	return (c.fan.CPU.Seconds() - atRest) / float64(c.sent.Calls) * 1e6
}

func requireLinear(t *testing.T, empty, few, many cost) {
	t.Helper()
	if few.n == many.n {
		return
	}
	atMost := func(most float64, what string, of func(cost) float64) {
		assert.LessOrEqual(t, many.each(of(many)), most, "%s of one instance among %d, against one among %d", what, many.n, few.n)
	}
	check := func(what string, of func(cost) float64) { atMost(linear*few.each(of(few)), what, of) }
	// By when it begins, a window has one heartbeat of an instance more or less, and a short one has few.
	atMost(linear*few.each(few.beats())+1/window.Seconds(), "heartbeats", cost.beats)
	check("connections", func(c cost) float64 { return c.conns })
	check("heap", func(c cost) float64 { return c.heap })
	check("goroutines", func(c cost) float64 { return c.goroutines })
	check("memory of Redis", func(c cost) float64 { return c.memory })
	atRest := func(c cost) float64 { return c.cpu() - empty.cpu() }
	if *window >= judged && atRest(few) >= audible {
		check("CPU at rest", atRest)
		check("CPU of an Invalidate", cost.fanMicros)
	}
}

func printCosts(t *testing.T, empty cost, costs []cost) {
	t.Helper()
	rest := table{{
		"instances", "heartbeats/s", "µs in the script", "Redis CPU, % of a core", "by the kernel", "less an empty server's",
		"µs CPU a heartbeat", "connections", "Redis memory, KiB each", "of which clients", "heap, KiB each", "goroutines each",
	}}
	rest.add(0, empty.beats(), "", empty.cpu(), empty.kernelCPU(), "", "", empty.conns, "", "", "", "")
	for _, c := range costs {
		net := c.cpu() - empty.cpu()
		rest.add(c.n, c.beats(), c.beatMicros(), c.cpu(), c.kernelCPU(), net, net/100/c.beats()*1e6, c.conns,
			c.each(c.memory)/1024, c.each(c.buf)/1024, c.each(c.heap)/1024, c.each(c.goroutines))
	}
	rest.print(t)

	fan := table{{"instances", "Invalidates/s", "messages delivered/s", "Redis CPU, µs an Invalidate", "µs a message"}}
	for _, c := range costs {
		per := float64(c.sent.Calls) / c.sent.Took.Seconds()
		fan.add(c.n, per, per*float64(c.n), c.fanMicros(), c.fanMicros()/float64(c.n))
	}
	fan.print(t)
}
