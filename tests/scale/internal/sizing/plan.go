package sizing

import (
	"time"

	"github.com/tandemcache/tandem/internal/partition"
)

// Plan is what is to be reckoned. Slots, keys, reads and writes are even: each master has as many slots, and each partition as
// much of the load.
type Plan struct {
	Instances  int // each with a Bus of its own
	Masters    int
	Partitions int
	Staleness  time.Duration // MaxStaleness

	// Of all instances and keys, a second.
	Invalidates float64 // of one key each
	Reads       float64 // that go to Redis
	Stores      float64

	Entries float64
	Bytes   float64 // of an entry's key and value
}

// Node is what the busiest master has, or has to do. It is taken to be the one that is asked for the number of partitions, too.
type Node struct {
	Partitions int
	Share      float64 // of everything that is spread over partitions

	Beats    float64 // a second
	Scripts  float64 // of them
	Messages float64 // delivered, a second
	In, Out  float64 // bytes of heartbeats, a second

	// Shares of a core.
	Rest, Told, Data float64

	Tell        time.Duration // its work for one Invalidate
	Connections float64
	Overhead    float64 // bytes for instances
	Entries     float64 // bytes for entries
}

// Busy returns the share of a core that the node needs.
func (n Node) Busy() float64 { return n.Rest + n.Told + n.Data }

// Most returns how many partitions the busiest of several masters has whose ranges of slots are even.
func Most(partitions, masters int) (int, error) {
	of, err := Spread(partitions, masters)
	most := 0
	for _, n := range of {
		most = max(most, n)
	}
	return most, err
}

// Spread returns how many partitions each master has.
func Spread(partitions, masters int) ([]int, error) {
	t, err := partition.New(partitions)
	if err != nil {
		return nil, err
	}
	of := make([]int, masters)
	for i := range partitions {
		slot := partition.Slot(t.Tag(i))
		for m := range of {
			if slot < (m+1)*partition.Slots/masters {
				of[m]++
				break
			}
		}
	}
	return of, nil
}

// longest is the bound from which on a longer one makes no heartbeat rarer: a bus sends one every 2 s at least.
const longest = 6 * time.Second

// interval is the time between two heartbeats of an instance to one node.
func (u Units) interval(p Plan) time.Duration {
	return time.Duration(float64(min(p.Staleness, longest)) / u.BeatsPerBound)
}

// Busiest reckons the busiest master of a plan.
func (u Units) Busiest(p Plan) (Node, error) {
	most, err := Most(p.Partitions, p.Masters)
	if err != nil {
		return Node{}, err
	}
	instances, parts := float64(p.Instances), float64(most)
	n := Node{Partitions: most, Share: parts / float64(p.Partitions)}
	n.Beats = instances / u.interval(p).Seconds()
	n.Scripts = n.Beats * parts
	n.In, n.Out = n.Beats*u.In.At(parts), n.Beats*u.Out.At(parts)
	n.Rest = n.Beats * (u.Beat.At(parts) + u.Look) / 1e6

	tell := u.Invalidate.At(instances)
	n.Tell = time.Duration(tell * float64(time.Microsecond))
	n.Told = p.Invalidates * n.Share * tell / 1e6
	n.Messages = p.Invalidates * n.Share * instances
	n.Data = (p.Reads*u.Read + p.Stores*u.Store) * n.Share / 1e6

	n.Connections = instances * u.Connections
	n.Overhead = instances * u.Memory.At(parts)
	n.Entries = p.Entries * n.Share * (u.Entry + p.Bytes)
	return n, nil
}

// Room returns how many Invalidates of one key a second all masters together have time for, if the busiest one is to be busy for
// no more than a share of the time; 0 if it is without any.
func (u Units) Room(p Plan, busy float64) (float64, error) {
	p.Invalidates = 0
	n, err := u.Busiest(p)
	if err != nil {
		return 0, err
	}
	return max(0, busy-n.Busy()) * 1e6 / (n.Share * u.Invalidate.At(float64(p.Instances))), nil
}
