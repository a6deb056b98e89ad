//go:build linux

package worker

import (
	"sync"

	"github.com/tandemcache/tandem/tests/chaos/internal/clock"
	"github.com/tandemcache/tandem/tests/chaos/internal/history"
)

// recorder collects the records of one instance.
type recorder struct {
	number int

	mu      sync.Mutex // protects what follows
	next    int
	open    map[int]int64 // when each write or settlement under way began
	report  Report
	pending []history.Write // not settled
}

func newRecorder(number int) *recorder {
	return &recorder{number: number, open: map[int]int64{}}
}

// begin announces a write or a settlement: until it has ended, the records are not complete past now.
func (r *recorder) begin() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	r.open[r.next] = clock.Now()
	return r.next
}

func (r *recorder) wrote(id int, w history.Write) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, id)
	r.report.Batch.Writes = append(r.report.Batch.Writes, w)
	if w.Outcome == history.Pending {
		r.pending = append(r.pending, w)
	}
}

// settle asks whether nothing is pending any more, and if so settles what was pending before it asked.
func (r *recorder) settle(nothingPending func() bool) {
	r.mu.Lock()
	n := len(r.pending)
	r.mu.Unlock()
	if n == 0 {
		return
	}
	id := r.begin()
	ok := nothingPending()
	at := clock.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, id)
	if !ok {
		return
	}
	for _, w := range r.pending[:n] {
		r.report.Batch.Settled = append(r.report.Batch.Settled,
			history.Settled{Instance: w.Instance, Key: w.Key, Version: w.Version, At: at})
	}
	r.pending = append([]history.Write(nil), r.pending[n:]...)
}

func (r *recorder) read(rd history.Read) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Batch.Reads = append(r.report.Batch.Reads, rd)
}

func (r *recorder) trust(t Trust, f Felt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Trust = append(r.report.Trust, t)
	r.report.Felt = f
}

func (r *recorder) felt(f Felt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Felt = f
}

func (r *recorder) done(id int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Done = append(r.report.Done, id)
}

// take returns what was collected since the last call. The time up to which it is complete is read under the lock: a write
// that has ended by then and is not in it is still open.
func (r *recorder) take() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.report
	r.report = Report{Felt: out.Felt}
	out.Batch.Instance = r.number
	out.Batch.Complete = clock.Now()
	for _, began := range r.open {
		out.Batch.Complete = min(out.Batch.Complete, began)
	}
	return out
}
