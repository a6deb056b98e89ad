//go:build linux

package worker

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tandemcache/tandem/tests/chaos/internal/clock"
	"github.com/tandemcache/tandem/tests/chaos/internal/design"
	"github.com/tandemcache/tandem/tests/chaos/internal/history"
)

const (
	tick     = 2 * time.Millisecond
	setEvery = 8  // one key in so many is written by one writer alone, with Set
	hotPart  = 64 // one key in so many is hot
	setTime  = 3  // one write of a slot's first writer in so many is of such a key

	batchTime = 64 // one read in so many is of batchSize keys at once
	batchSize = 16
	endTime   = 6 // one write in so many has a context that ends soon
)

// load is the source's loader: it reads the version at the beginning of its delay or at the end, as databases do.
func (w *worker) load(ctx context.Context, key int) (design.Value, error) {
	v, err := w.loadMany(ctx, []int{key})
	return v[0], err
}

// loadMany is the source's loader for several keys at once.
func (w *worker) loadMany(_ context.Context, keys []int) ([]design.Value, error) {
	values := make([]design.Value, len(keys))
	read := func() {
		for i, key := range keys {
			values[i] = design.Value{Key: key, Version: w.source.Read(key)}
		}
	}
	delay := rand.N(w.cfg.LoadDelay + 1)
	if rand.N(20) == 0 {
		delay *= 10
	}
	early := rand.N(2) == 0
	if early {
		read()
	}
	time.Sleep(delay)
	if !early {
		read()
	}
	return values, nil
}

// paced calls f rate times a second on average until stop, in bursts. After a pause of the process it goes on at the same
// pace: it makes up for nothing.
func (w *worker) paced(rate func() int, f func()) {
	timer := time.NewTicker(tick)
	defer timer.Stop()
	owed := 0.0
	for {
		select {
		case <-timer.C:
		case <-w.stop:
			return
		}
		for owed = min(owed+float64(rate())*tick.Seconds(), 100); owed >= 1; owed-- {
			f()
		}
	}
}

func (w *worker) readLoop(rng *rand.Rand) {
	w.paced(func() int { return max(w.cfg.ReadRate/w.cfg.Readers, 1) }, func() {
		if rng.IntN(batchTime) == 0 {
			w.readMany(rng)
			return
		}
		w.read(w.pick(rng, 2))
	})
}

func (w *worker) readMany(rng *rand.Rand) {
	keys := make([]int, batchSize)
	for i := range keys {
		keys[i] = w.pick(rng, 4)
	}
	start := clock.Now()
	values, err := w.instance.GetMany(context.Background(), keys)
	end := clock.Now()
	for i, key := range keys {
		w.saw(history.Read{Instance: w.cfg.Number, Key: key, Start: start, End: end}, values, i, err)
	}
}

// pick returns a key: a hot one once in hot times.
func (w *worker) pick(rng *rand.Rand, hot int) int {
	n := w.source.Keys()
	if rng.IntN(hot) == 0 {
		return rng.IntN(n/hotPart) * hotPart
	}
	return rng.IntN(n)
}

// sweep reads every key once, several at a time.
func (w *worker) sweep() {
	const lanes = 8
	var done sync.WaitGroup
	for lane := range lanes {
		done.Go(func() {
			for key := lane; key < w.source.Keys(); key += lanes {
				w.read(key)
			}
		})
	}
	done.Wait()
}

func (w *worker) read(key int) {
	r := history.Read{Instance: w.cfg.Number, Key: key, Start: clock.Now()}
	v, err := w.instance.Get(context.Background(), key)
	r.End = clock.Now()
	w.saw(r, []design.Value{v}, 0, err)
}

// saw records a read that returned values[i], or err.
func (w *worker) saw(r history.Read, values []design.Value, i int, err error) {
	switch {
	case err != nil:
		r.Err = err.Error()
	case values[i].Key != r.Key:
		r.Version = -1 // a value of another key was never this one's
	default:
		r.Version = values[i].Version
	}
	w.rec.read(r)
}

func (w *worker) writeLoop(rng *rand.Rand, writer int) {
	select {
	case <-time.After(w.cfg.Grace):
	case <-w.stop:
		return
	}
	rate := func() int { return int(w.writeRate.Load()) / w.cfg.Writers }
	w.paced(rate, func() {
		w.writing.RLock() // a command that stops the writes waits for those under way
		defer w.writing.RUnlock()
		switch {
		case w.writeRate.Load() == 0:
		case writer == 0 && rng.IntN(setTime) == 0:
			w.writeTwice(rng, w.ownKey(rng), rng.IntN(4) != 0)
		default:
			if key := w.pick(rng, 4); key%setEvery != setEvery-1 {
				w.writeTwice(rng, key, false)
			}
		}
	})
}

// ownKey returns a key that this slot's first writer alone writes.
func (w *worker) ownKey(rng *rand.Rand) int {
	groups := w.source.Keys() / setEvery / w.cfg.Slots
	return (rng.IntN(groups)*w.cfg.Slots+w.cfg.Slot)*setEvery + setEvery - 1
}

// writeTwice writes, and now and then once more while those who load again because of the first are at it.
func (w *worker) writeTwice(rng *rand.Rand, key int, set bool) {
	w.write(key, set)
	if rng.IntN(4) == 0 {
		time.Sleep(time.Duration(rng.Int64N(int64(2*w.cfg.LoadDelay) + 1)))
		w.write(key, set)
	}
}

func (w *worker) write(key int, set bool) {
	ctx, cancel := writeContext()
	defer cancel()
	id := w.rec.begin()
	r := history.Write{Instance: w.cfg.Number, Key: key, Set: set}
	r.Version = w.source.Commit(key)
	r.Commit = clock.Now()
	var err error
	r.Start = clock.Now()
	if set {
		err = w.instance.Set(ctx, design.Value{Key: key, Version: r.Version})
	} else {
		err = w.instance.Invalidate(ctx, key)
	}
	r.End = clock.Now()
	switch {
	case errors.Is(err, design.ErrPending):
		r.Outcome, r.Err = history.Pending, err.Error()
	case err != nil:
		r.Outcome, r.Err = history.Failed, err.Error()
	}
	w.rec.wrote(id, r)
}

// writeContext returns a context that now and then ends while the write is on its way, or before.
func writeContext() (context.Context, context.CancelFunc) {
	if rand.N(endTime) != 0 {
		return context.WithCancel(context.Background())
	}
	return context.WithTimeout(context.Background(), rand.N(2*time.Millisecond))
}
