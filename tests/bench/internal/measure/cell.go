// Package measure times what competitors do, and reduces rounds of it to figures that can be compared.
package measure

import (
	"errors"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Reader answers reads. Read returns the ID in the value of key.
type Reader interface {
	Read(key string) (int64, error)
}

// Cell is what one competitor did in one round.
type Cell struct {
	Ops    int
	Wall   time.Duration
	Allocs uint64 // in the whole process
	// Commands are those that Redis ran meanwhile, for whomever; zero where nobody asked.
	Commands uint64
	// Latencies are how long pieces of the work took, sorted, and Piece is how many operations one of them is.
	Latencies []time.Duration
	Piece     int
}

// Nanos returns the wall time per operation in nanoseconds.
func (c Cell) Nanos() float64 { return float64(c.Wall) / float64(c.Ops) }

// PerSecond returns the operations per second.
func (c Cell) PerSecond() float64 { return float64(c.Ops) / c.Wall.Seconds() }

// AllocsPerOp returns the allocations per operation.
func (c Cell) AllocsPerOp() float64 { return float64(c.Allocs) / float64(c.Ops) }

// Micros returns a percentile of the latencies of an operation in microseconds, and NaN where none were taken.
func (c Cell) Micros(p float64) float64 {
	if len(c.Latencies) == 0 {
		return math.NaN()
	}
	return float64(Percentile(c.Latencies, p)) / float64(c.Piece) / float64(time.Microsecond)
}

// batch is how many reads are made between two looks at the clock, which would otherwise cost more than they do.
const batch = 512

// Reads reads the keys of order in turn for d, from several goroutines that start at different places of it. What is
// timed are batches. order must have a length that is a power of two.
func Reads(r Reader, order []string, goroutines int, d time.Duration) (Cell, error) {
	mask := len(order) - 1
	return workers(goroutines, batch, func(worker int) ([]time.Duration, error) {
		i := worker * len(order) / goroutines
		return timed(d, func(int) error {
			for range batch {
				if _, err := r.Read(order[i&mask]); err != nil {
					return err
				}
				i++
			}
			return nil
		})
	})
}

// Timed calls each, with the number of the worker and of its call, from several goroutines for d, and times every call.
func Timed(goroutines int, d time.Duration, each func(worker, i int) error) (Cell, error) {
	return workers(goroutines, 1, func(worker int) ([]time.Duration, error) {
		return timed(d, func(i int) error { return each(worker, i) })
	})
}

// timed calls piece, with the number of the call, for d, and times every call.
func timed(d time.Duration, piece func(i int) error) ([]time.Duration, error) {
	var took []time.Duration
	begin := time.Now()
	for before := begin; before.Sub(begin) < d; {
		if err := piece(len(took)); err != nil {
			return took, err
		}
		after := time.Now()
		took = append(took, after.Sub(before))
		before = after
	}
	return took, nil
}

// Prepared calls prepare, and then each for so many times as that has prepared, again and again, and times only the latter: until
// they have taken d, or all of it twice d.
func Prepared(d time.Duration, times int, prepare func() error, each func(i int) error) (Cell, error) {
	cell := Cell{Piece: 1}
	runtime.GC() // as in workers
	for start := time.Now(); cell.Wall < d && time.Since(start) < 2*d; {
		if err := prepare(); err != nil {
			return cell, err
		}
		for i := range times {
			before := time.Now()
			if err := each(i); err != nil {
				return cell, err
			}
			took := time.Since(before)
			cell.Wall += took
			cell.Latencies = append(cell.Latencies, took)
		}
	}
	cell.Ops = len(cell.Latencies)
	slices.Sort(cell.Latencies)
	return cell, nil
}

// CommandsPerOp returns the commands per operation.
func (c Cell) CommandsPerOp() float64 { return float64(c.Commands) / float64(c.Ops) }

// workers runs work, in pieces of so many operations, on several goroutines that begin together. The garbage of what ran before is collected first, so that
// nobody pays for somebody else's.
func workers(goroutines, piece int, work func(worker int) ([]time.Duration, error)) (Cell, error) {
	var (
		cell  = Cell{Piece: piece}
		mu    sync.Mutex // guards cell and failed
		all   sync.WaitGroup
		begin = make(chan struct{})
		ready atomic.Int64
	)
	var failed []error
	for worker := range goroutines {
		all.Go(func() {
			ready.Add(1)
			<-begin
			took, err := work(worker)
			mu.Lock()
			defer mu.Unlock()
			cell.Ops += len(took) * piece
			cell.Latencies = append(cell.Latencies, took...)
			failed = append(failed, err)
		})
	}
	for ready.Load() < int64(goroutines) {
		runtime.Gosched()
	}
	runtime.GC()
	before := mallocs()
	start := time.Now()
	close(begin)
	all.Wait()
	cell.Wall = time.Since(start)
	cell.Allocs = mallocs() - before
	slices.Sort(cell.Latencies)
	return cell, errors.Join(failed...)
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}
