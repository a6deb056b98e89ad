// Command sizing prints what a fleet of instances costs the masters of a Redis Cluster, reckoned from what was measured of a
// smaller one and simulated. See ../SIZING.md.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/tandemcache/tandem/tests/scale/internal/markdown"
	"github.com/tandemcache/tandem/tests/scale/internal/sizing"
)

func main() {
	err := run(os.Args[1:], os.Stdout)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "sizing:", err)
		os.Exit(1)
	}
}

// settings are what the command line says.
type settings struct {
	units sizing.Units
	plan  sizing.Plan
	busy  float64       // of the time, that a master may be busy
	span  time.Duration // that is simulated
}

func run(args []string, out io.Writer) error {
	var s settings
	var file string
	flags := flag.NewFlagSet("sizing", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.StringVar(&file, "units", "tests/scale/units.json", "what TestCluster and TestSpread have measured, with their -units")
	flags.IntVar(&s.plan.Instances, "instances", 1000, "instances, each with a Bus of its own")
	flags.IntVar(&s.plan.Masters, "masters", 20, "masters with even ranges of slots")
	flags.IntVar(&s.plan.Partitions, "partitions", 256, "BusOptions.Partitions")
	flags.DurationVar(&s.plan.Staleness, "staleness", 2*time.Second, "MaxStaleness")
	flags.Float64Var(&s.plan.Invalidates, "invalidates", 500, "Invalidates a second of one key, of all instances")
	flags.Float64Var(&s.plan.Reads, "reads", 100_000, "reads a second that go to Redis, of all instances")
	flags.Float64Var(&s.plan.Stores, "stores", 10_000, "entries stored a second, by all instances")
	flags.Float64Var(&s.plan.Entries, "entries", 50e6, "entries in Redis")
	flags.Float64Var(&s.plan.Bytes, "bytes", 500, "bytes of an entry's key and value")
	flags.Float64Var(&s.busy, "busy", 0.5, "the share of its time that a master may be busy")
	flags.DurationVar(&s.span, "span", 60*time.Second, "what is simulated for each row")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var err error
	if s.units, err = sizing.Load(file); err != nil {
		return err
	}
	for _, section := range []func(io.Writer, settings) error{
		printUnits, printPartitions, printRest, printLoad, printLimit, printChanges,
	} {
		if err := section(out, s); err != nil {
			return err
		}
	}
	return nil
}

func write(out io.Writer, title string, t markdown.Table) error {
	_, err := fmt.Fprintf(out, "### %s\n\n%s\n", title, t.String())
	return err
}

// printUnits prints what everything else is made of.
func printUnits(out io.Writer, s settings) error {
	u := s.units
	t := markdown.Table{{"measured", "fixed", "and each", "of", "furthest from the line, %"}}
	line := func(what string, l sizing.Line, of string) { t.Add(what, l.Fixed, l.Each, of, 100*l.Off) }
	line("a heartbeat, µs CPU of the node", u.Beat, "partition on the node")
	t.Add("a look at the number of partitions, which one node of all is asked for as often, µs CPU", u.Look, "", "", "")
	line("a heartbeat, µs CPU of the instance", u.OwnBeat, "partition on the node")
	line("likewise, bytes that the node reads", u.In, "partition on the node")
	line("likewise, bytes that it writes", u.Out, "partition on the node")
	line("an Invalidate of one key, µs CPU of the node", u.Invalidate, "instance")
	line("an instance, bytes on the node", u.Memory, "partition on the node")
	plane := func(what string, p sizing.Plane) {
		t.Add(what, p.Fixed, p.Node, "node", 100*p.Off)
		t.Add("", "", p.Partition, "partition", "")
	}
	plane("an instance, goroutines", u.Goroutines)
	plane("an instance, bytes of heap", u.Heap)
	t.Add("an instance, connections to a node", u.Connections, "", "", "")
	t.Add("heartbeats to a node within MaxStaleness", u.BeatsPerBound, "", "", "")
	t.Add("an entry, bytes beside key and value", u.Entry, "", "", "")
	t.Add("an entry stored, of many at once, µs CPU of the node", u.Store, "", "", "")
	t.Add("an entry read, of many at once, µs CPU of the node", u.Read, "", "", "")
	return write(out, "What was measured", t)
}

var partitions = []int{64, 256, 1024}

const (
	// even is how many times the mean the busiest master may have for keys to count as spread evenly.
	even = 1.15
	// manyMasters is where printPartitions stops looking.
	manyMasters = 200
)

// printPartitions prints for how many masters a number of partitions is enough.
func printPartitions(out io.Writer, s settings) error {
	t := markdown.Table{{"partitions", "up to how many masters", fmt.Sprintf("on the busiest of %d", s.plan.Masters), "to the mean"}}
	for _, n := range append([]int{16}, partitions...) {
		enough := 0
		for uneven := 0.0; uneven <= even && enough < manyMasters; {
			most, err := sizing.Most(n, enough+1)
			if err != nil {
				return err
			}
			if uneven = float64(most*(enough+1)) / float64(n); uneven <= even {
				enough++
			}
		}
		most, err := sizing.Most(n, s.plan.Masters)
		if err != nil {
			return err
		}
		t.Add(n, enough, most, float64(most*s.plan.Masters)/float64(n))
	}
	return write(out, fmt.Sprintf("Partitions: the busiest of several masters with even ranges of slots has %.2f times the mean at most", even), t)
}

// printRest prints what the fleet costs with nothing to do.
func printRest(out io.Writer, s settings) error {
	nodes := markdown.Table{{
		"partitions", "of the busiest master", "to the mean", "heartbeats/s", "scripts/s", "CPU, % of a core", "connections",
		"memory of instances, MiB", "of entries, GiB", "in, MiB/s", "out, MiB/s",
	}}
	own := markdown.Table{{"partitions", "CPU of an instance, % of a core", "connections", "goroutines", "heap, MiB"}}
	for _, n := range partitions {
		p := s.plan
		p.Partitions = n
		node, err := s.units.Busiest(p)
		if err != nil {
			return err
		}
		masters := float64(p.Masters)
		nodes.Add(n, node.Partitions, node.Share*masters, node.Beats, node.Scripts, 100*node.Rest, node.Connections,
			node.Overhead/(1<<20), node.Entries/(1<<30), node.In/(1<<20), node.Out/(1<<20))
		cpu := node.Beats / float64(p.Instances) * masters * s.units.OwnBeat.At(float64(n)/masters) / 1e6
		own.Add(n, 100*cpu, s.units.Connections*masters, s.units.Goroutines.At(p.Masters, n), s.units.Heap.At(p.Masters, n)/(1<<20))
	}
	title := fmt.Sprintf("%d instances on %d masters at rest, MaxStaleness %v", s.plan.Instances, s.plan.Masters, s.plan.Staleness)
	if err := write(out, title+": the busiest master", nodes); err != nil {
		return err
	}
	return write(out, title+": one instance", own)
}

// printLoad prints how long requests wait, by the rate of Invalidates.
func printLoad(out io.Writer, s settings) error {
	t := markdown.Table{{
		"Invalidates/s of all", "messages/s of the busiest master", "busy, % at rest", "with reads and stores", "and Invalidates",
		"one Invalidate, ms of the master", "all told, ms, p50", "p99", "a read, ms, p50", "p99", "most", "heartbeats given up, %",
	}}
	for _, rate := range []float64{0, 100, 500, 1000, 2000, 5000, 10_000} {
		p := s.plan
		p.Invalidates = rate
		n, err := s.units.Busiest(p)
		if err != nil {
			return err
		}
		row := []any{rate, n.Messages, 100 * n.Rest, 100 * (n.Rest + n.Data), 100 * n.Busy(), millis(n.Tell)}
		if t.Add(append(row, s.waits(p, n)...)...); n.Busy() >= 1 {
			break
		}
	}
	return write(out, fmt.Sprintf("%d partitions, %.0f reads and %.0f stores a second: simulated", s.plan.Partitions, s.plan.Reads, s.plan.Stores), t)
}

// waits simulates, unless there is no end to it.
func (s settings) waits(p sizing.Plan, n sizing.Node) []any {
	w, err := s.units.Simulate(p, s.span, 1)
	if err != nil || n.Busy() >= 1 {
		return []any{"", "", "", "", "", "it does not keep up"}
	}
	return []any{millis(w.Told50), millis(w.Told99), millis(w.Read50), millis(w.Read99), millis(w.ReadMost), 100 * w.Late}
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// printLimit prints what more instances leave room for, and what more masters do about it.
func printLimit(out io.Writer, s settings) error {
	masters := []int{5, 10, 20, 40}
	head := []string{"instances"}
	for _, m := range masters {
		head = append(head, fmt.Sprintf("busy at rest on %d masters, %%", m), "Invalidates/s")
	}
	t := markdown.Table{head}
	for _, n := range []int{100, 300, 1000, 2000, 3000, 5000, 10_000} {
		row := []any{n}
		for _, m := range masters {
			p := s.plan
			p.Instances, p.Masters = n, m
			node, err := s.units.Busiest(p)
			if err != nil {
				return err
			}
			room, err := s.units.Room(p, s.busy)
			if err != nil {
				return err
			}
			row = append(row, 100*node.Rest, room)
		}
		t.Add(row...)
	}
	title := fmt.Sprintf("Invalidates/s of all instances with which the busiest master is busy for %.0f %% of its time, reads and stores included", 100*s.busy)
	return write(out, title, t)
}

// printChanges prints what can be changed about a fleet that is too large.
func printChanges(out io.Writer, s settings) error {
	t := markdown.Table{{
		"", "busy at rest, %", "Invalidates/s", "one Invalidate, ms of the master", "connections to a master", "memory of instances, MiB",
		"CPU of an instance, % of a core",
	}}
	for _, change := range s.changes() {
		p := s.plan
		p.Instances *= grown
		change.to(&p)
		n, err := s.units.Busiest(p)
		if err != nil {
			return err
		}
		room, err := s.units.Room(p, s.busy)
		if err != nil {
			return err
		}
		masters := float64(p.Masters)
		own := n.Beats / float64(p.Instances) * masters * s.units.OwnBeat.At(float64(p.Partitions)/masters) / 1e6
		t.Add(change.name, 100*n.Rest, room*float64(change.clusters), millis(n.Tell), n.Connections, n.Overhead/(1<<20), 100*own)
	}
	title := fmt.Sprintf("%d instances on %d masters, and what can be changed; Invalidates/s as above", grown*s.plan.Instances, s.plan.Masters)
	return write(out, title, t)
}

// grown is how many times as large the fleet is that is to be changed.
const grown = 4

// change is a way to change a plan.
type change struct {
	name     string
	clusters int // in all
	to       func(*sizing.Plan)
}

func (s settings) changes() []change {
	split := func(by int) func(*sizing.Plan) {
		return func(p *sizing.Plan) {
			p.Instances /= by
			p.Masters = max(1, p.Masters/by)
			p.Invalidates, p.Reads, p.Stores, p.Entries = p.Invalidates/float64(by), p.Reads/float64(by), p.Stores/float64(by), p.Entries/float64(by)
		}
	}
	return []change{
		{"as it is", 1, func(*sizing.Plan) {}},
		{"64 partitions", 1, func(p *sizing.Plan) { p.Partitions = 64 }},
		{"1024 partitions", 1, func(p *sizing.Plan) { p.Partitions = 1024 }},
		{"MaxStaleness 4 s", 1, func(p *sizing.Plan) { p.Staleness = 4 * time.Second }},
		{"MaxStaleness 6 s or more", 1, func(p *sizing.Plan) { p.Staleness = 6 * time.Second }},
		{"half as many masters", 1, func(p *sizing.Plan) { p.Masters = max(1, p.Masters/2) }},
		{"twice as many masters", 1, func(p *sizing.Plan) { p.Masters *= 2 }},
		{"half as many processes, each twice as large", 1, func(p *sizing.Plan) { p.Instances /= 2 }},
		{"two clusters, with half of the instances, masters and load each", 2, split(2)},
		{"four, with a quarter each", 4, split(4)},
		{"four, and MaxStaleness 6 s", 4, func(p *sizing.Plan) {
			split(4)(p)
			p.Staleness = 6 * time.Second
		}},
	}
}
