package sizing

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Waits are how long requests to the busiest master took, from their arrival until they were done: they wait for one another, as
// Redis does one thing at a time.
type Waits struct {
	Busy float64 // share of the time

	Read50, Read99, ReadMost time.Duration
	// Told is from an Invalidate's arrival until the node has written to all instances.
	Told50, Told99 time.Duration
	Beat99         time.Duration
	// Late is the share of heartbeats that an instance has given up meanwhile, as it waits for half an interval more than one.
	Late float64
}

// kind is what arrives.
type kind uint8

const (
	beat kind = iota
	invalidate
	read
	store
	kinds
)

// arrival is the next request of a source.
type arrival struct {
	at float64 // s
	of kind
}

type arrivals []arrival

func (a arrivals) Len() int           { return len(a) }
func (a arrivals) Less(i, j int) bool { return a[i].at < a[j].at }
func (a arrivals) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *arrivals) Push(x any)        { *a = append(*a, x.(arrival)) }
func (a *arrivals) Pop() any          { old := *a; x := old[len(old)-1]; *a = old[:len(old)-1]; return x }

// Simulate lets the requests of a plan arrive at its busiest master for d: heartbeats of each instance at intervals that differ by
// a tenth, all else as it comes (Poisson).
func (u Units) Simulate(p Plan, d time.Duration, seed uint64) (Waits, error) {
	n, err := u.Busiest(p)
	if err != nil {
		return Waits{}, err
	}
	q := queue{random: rand.New(rand.NewPCG(seed, seed))}
	q.interval = u.interval(p).Seconds()
	q.cost = [kinds]float64{
		beat: (u.Beat.At(float64(n.Partitions)) + u.Look) / 1e6, invalidate: n.Tell.Seconds(), read: u.Read / 1e6, store: u.Store / 1e6,
	}
	q.rate = [kinds]float64{invalidate: p.Invalidates * n.Share, read: p.Reads * n.Share, store: p.Stores * n.Share}
	for range p.Instances {
		q.next = append(q.next, arrival{q.random.Float64() * q.interval, beat})
	}
	for k := invalidate; k < kinds; k++ {
		if q.rate[k] > 0 {
			q.next = append(q.next, arrival{q.random.ExpFloat64() / q.rate[k], k})
		}
	}
	heap.Init(&q.next)
	q.run(d.Seconds())
	return q.waits(d.Seconds(), min(p.Staleness, longest).Seconds()/2), nil
}

// queue is a server that does one thing at a time, in the order of arrival.
type queue struct {
	random   *rand.Rand
	interval float64
	cost     [kinds]float64
	rate     [kinds]float64
	next     arrivals

	busy float64
	took [kinds][]float64
}

func (q *queue) run(end float64) {
	free := 0.0
	for len(q.next) > 0 && q.next[0].at < end {
		a := q.next[0]
		free = max(free, a.at) + q.cost[a.of]
		q.busy += q.cost[a.of]
		q.took[a.of] = append(q.took[a.of], free-a.at)
		if a.of == beat {
			// The next one is sent when this has been answered.
			q.next[0].at = free + q.interval*(0.9+0.2*q.random.Float64())
		} else {
			q.next[0].at += q.random.ExpFloat64() / q.rate[a.of]
		}
		heap.Fix(&q.next, 0)
	}
}

func (q *queue) waits(length, patience float64) Waits {
	for _, took := range q.took {
		slices.Sort(took)
	}
	at := func(k kind, share float64) time.Duration {
		took := q.took[k]
		if len(took) == 0 {
			return 0
		}
		i := min(len(took)-1, max(0, int(math.Ceil(share*float64(len(took))))-1))
		return time.Duration(took[i] * float64(time.Second))
	}
	w := Waits{
		Busy:   q.busy / length,
		Read50: at(read, 0.5), Read99: at(read, 0.99), ReadMost: at(read, 1),
		Told50: at(invalidate, 0.5), Told99: at(invalidate, 0.99), Beat99: at(beat, 0.99),
	}
	if beats := q.took[beat]; len(beats) > 0 {
		late, _ := slices.BinarySearch(beats, patience)
		w.Late = float64(len(beats)-late) / float64(len(beats))
	}
	return w
}
