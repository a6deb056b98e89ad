package replay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/fleet"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/history"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/source"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/ui"
)

// setsOutOf is in how many writes one is a Set, the others being Invalidates.
const setsOutOf = 4

// player is a replay under way.
type player struct {
	cfg     Config
	fleet   *fleet.Fleet
	rows    []*source.Row // by the trace's index
	workers []worker

	next   atomic.Int64  // the next access
	failed atomic.Bool   // a worker has an error: the others stop
	took   time.Duration // set by play
}

// worker is one goroutine's part, on one instance.
type worker struct {
	instance *fleet.Instance
	random   *rand.Rand
	writes   Writes
	tally    history.Tally
	err      error

	_ [64]byte // workers lie beside each other, and count all the time
}

func newPlayer(cfg Config, f *fleet.Fleet, src *source.Source) *player {
	p := &player{cfg: cfg, fleet: f, rows: make([]*source.Row, len(cfg.Trace.Keys))}
	for n, key := range cfg.Trace.Keys {
		p.rows[n] = src.Row(key)
	}
	p.workers = make([]worker, cfg.Instances*cfg.Workers)
	for n := range p.workers {
		p.workers[n].instance = f.Instances[n%cfg.Instances]
		p.workers[n].random = rand.New(rand.NewPCG(1, uint64(n)))
		p.workers[n].tally.Bound = cfg.MaxStaleness
	}
	return p
}

// play returns when the whole trace has been replayed, or the first error of a worker.
func (p *player) play(ctx context.Context, out *ui.Printer) error {
	began := time.Now()
	var running sync.WaitGroup
	for n := range p.workers {
		running.Go(func() { p.work(ctx, &p.workers[n]) })
	}
	finished := make(chan struct{})
	go func() {
		running.Wait()
		close(finished)
	}()
	p.follow(out, began, finished)
	p.took = time.Since(began)
	for n := range p.workers {
		if err := p.workers[n].err; err != nil {
			return fmt.Errorf("instance %d: %w", p.workers[n].instance.Index+1, err)
		}
	}
	return nil
}

// work takes the next access as long as there is one. Which instance an access comes to is a matter of who is free, as it
// is behind a load balancer.
func (p *player) work(ctx context.Context, w *worker) {
	for w.err == nil && !p.failed.Load() {
		n := p.next.Add(1) - 1
		if n >= int64(len(p.cfg.Trace.Accesses)) {
			return
		}
		row := p.rows[p.cfg.Trace.Accesses[n]]
		if w.random.Float64()*100 < p.cfg.Writes {
			w.err = w.write(ctx, row)
		}
		if w.err == nil {
			w.err = w.instance.Read(ctx, row, &w.tally)
		}
	}
	if w.err != nil {
		p.failed.Store(true)
	}
}

func (w *worker) write(ctx context.Context, row *source.Row) error {
	set := w.random.IntN(setsOutOf) == 0
	if set {
		w.writes.Sets++
	} else {
		w.writes.Invalidates++
	}
	repeats, err := w.instance.Write(ctx, row, set)
	w.writes.Repeated += repeats
	return err
}

// follow shows how far the replay is until it is finished.
func (p *player) follow(out *ui.Printer, began time.Time, finished <-chan struct{}) {
	total := len(p.cfg.Trace.Accesses)
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-finished:
			return
		case <-ticker.C:
			done := min(int(p.next.Load()), total)
			rate := float64(done) / time.Since(began).Seconds()
			sum := fleet.Sum(p.fleet.Totals())
			out.Progressf("%s of %s (%s)   %s a second   L1 %s   L2 %s", ui.Count(done), ui.Count(total),
				ui.Percent(uint64(done), uint64(total)), ui.Count(int(rate)),
				ui.Percent(sum.LocalHits, sum.Reads), ui.Percent(sum.RemoteHits, sum.Reads))
		}
	}
}
