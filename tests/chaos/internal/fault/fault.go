//go:build linux

package fault

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tandemcache/tandem/tests/chaos/internal/arena"
)

// Class is what a fault needs for itself: faults of different classes may overlap.
type Class uint8

// The classes.
const (
	Network Class = iota // the proxies
	Server               // Redis, its configuration and its process
	Process              // instances with a process of their own
	Load                 // what is asked of Redis, and by whom
)

// Moment is one in the course of a fault.
type Moment uint8

// The moments.
const (
	Healed  Moment = iota // the mending is done
	Mending               // it begins
	Started               // the fault begins: Redis is to mend it by itself
)

// Fault is one way of breaking things.
type Fault struct {
	Name  string
	Class Class
	// Needs is the topology for which it is made.
	Needs arena.Topology
	// Cluster says that it does to a cluster what it does to one server.
	Cluster bool
	// Gap says why the contract does not hold under this fault. Such a fault runs only where it is asked for by name.
	Gap string
	// Bars are the classes of which no other fault may be active meanwhile: of Process, if this one talks to the instances and
	// has told them what to do.
	Bars []Class
	// Since is from when the time counts until trust is regained.
	Since Moment
	// Span is how long it lasts in a run of its own; zero is past MaxStaleness.
	Span time.Duration
	// Start breaks something, chosen by rng, and returns what mends it. It may take its time.
	Start func(ctx context.Context, a *arena.Arena, rng *rand.Rand) (heal func() error, err error)
}

// All returns every fault, in the order of the table.
func All() []Fault {
	var all []Fault
	for _, part := range [][]Fault{network(), server(), process(), load(), sentinels(), cluster()} {
		all = append(all, part...)
	}
	return all
}

// Fits says whether it can be done to a Redis of this topology. What is done to a process can be done anywhere.
func (f Fault) Fits(t arena.Topology) bool {
	return f.Needs == t || f.Class == Process || f.Cluster && t == arena.WithCluster
}

// Clashes says whether it cannot begin while another one is active.
func (f Fault) Clashes(other Fault) bool {
	return f.Class == other.Class || slices.Contains(f.Bars, other.Class) || slices.Contains(other.Bars, f.Class)
}

// some returns a part of the slots by chance: at least one, and in one case of eight all of them.
func some(a *arena.Arena, rng *rand.Rand) []*arena.Slot {
	slots := append([]*arena.Slot(nil), a.Slots...)
	if rng.IntN(8) == 0 {
		return slots
	}
	rng.Shuffle(len(slots), func(i, j int) { slots[i], slots[j] = slots[j], slots[i] })
	return slots[:1+rng.IntN(len(slots)-1)]
}

func indices(slots []*arena.Slot) []int {
	var out []int
	for _, s := range slots {
		out = append(out, s.Index)
	}
	return out
}
