package measure

import (
	"runtime"
	"slices"
	"sync"
	"time"
)

// WaitForCalm waits until nothing else seems to want the processors, for limit at most, and reports whether that is so.
func WaitForCalm(limit time.Duration) bool {
	return waitForCalm(limit, spins)
}

const (
	spinRounds = 20
	// disturbed is how much longer than the fastest all but a tenth of equal pieces of work may take on a calm machine.
	disturbed = 1.3
	// pause is how long a machine that is busy is left alone before it is looked at again.
	pause = 200 * time.Millisecond
)

func waitForCalm(limit time.Duration, sample func() []time.Duration) bool {
	for deadline := time.Now().Add(limit); ; time.Sleep(pause) {
		if calm(sample()) {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// calm reports whether equal pieces of work took about the same time.
func calm(took []time.Duration) bool {
	slices.Sort(took)
	return float64(Percentile(took, 90)) <= disturbed*float64(took[0])
}

// spins returns how long each of several equal pieces of work took, on all processors at once.
func spins() []time.Duration {
	var all []time.Duration
	var mu sync.Mutex // guards all
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for range spinRounds {
				took := spin()
				mu.Lock()
				all = append(all, took)
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return all
}

// spin works for a few milliseconds, longer than a scheduler lets one of two that want a processor run.
func spin() time.Duration {
	start := time.Now()
	x := uint64(1)
	for range 10_000_000 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	runtime.KeepAlive(x)
	return time.Since(start)
}
