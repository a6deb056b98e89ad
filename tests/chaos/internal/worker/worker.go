//go:build linux

package worker

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tandemcache/tandem/tests/chaos/internal/clock"
	"github.com/tandemcache/tandem/tests/chaos/internal/design"
	"github.com/tandemcache/tandem/tests/chaos/internal/source"
)

const (
	reportEvery = 20 * time.Millisecond
	healthEvery = 5 * time.Millisecond

	// workerEnv makes a test binary a worker; logEnv has the instances log to the standard error.
	workerEnv = "TANDEM_CHAOS_WORKER"
	logEnv    = "TANDEM_CHAOS_LOG"
)

type worker struct {
	cfg       Config
	source    *source.Source
	instance  design.Instance
	rec       *recorder
	writeRate atomic.Int64
	writing   sync.RWMutex // read-locked by a write
	stop      chan struct{}
}

// Main is for TestMain: if this process was started as a worker, it is one until it is told to quit, and does not return.
func Main() {
	if os.Getenv(workerEnv) == "" {
		return
	}
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run is a worker's life: from its Config until Quit, or until commands end.
func run(commands io.Reader, reports io.Writer) (err error) {
	in, out := gob.NewDecoder(commands), gob.NewEncoder(reports)
	defer func() {
		if err != nil {
			err = errors.Join(err, out.Encode(Report{Failed: err.Error()}))
		}
	}()
	var cfg Config
	if err := in.Decode(&cfg); err != nil {
		return err
	}
	src, err := source.Open(cfg.Source)
	if err != nil {
		return err
	}
	w := &worker{cfg: cfg, source: src, rec: newRecorder(cfg.Number), stop: make(chan struct{})}
	rdb := design.NewClient(cfg.Redis)
	defer rdb.Close()
	w.instance, err = design.Start(cfg.Design, design.Options{
		Redis: rdb, Load: w.load, LoadMany: w.loadMany, MaxStaleness: cfg.MaxStaleness, TTL: time.Hour, Logger: logger(cfg.Number),
	})
	if err != nil {
		return errors.Join(err, src.Close())
	}
	w.writeRate.Store(int64(cfg.WriteRate))

	var load, rest sync.WaitGroup
	rng := func(stream int) *rand.Rand { return rand.New(rand.NewPCG(cfg.Seed, uint64(cfg.Number<<16+stream))) }
	for i := range cfg.Readers {
		load.Go(func() { w.readLoop(rng(i)) })
	}
	for i := range cfg.Writers {
		load.Go(func() { w.writeLoop(rng(1000+i), i) })
	}
	over := make(chan struct{})
	rest.Go(func() { w.watchHealth(over) })
	var sendErr error
	rest.Go(func() { sendErr = w.send(out, over) })

	w.obey(in)
	close(w.stop)
	load.Wait()
	close(over)
	rest.Wait()
	closeErr := w.instance.Close()
	if errors.Is(closeErr, design.ErrPending) {
		closeErr = nil // Redis may be down at the end
	}
	return errors.Join(sendErr, closeErr, src.Close())
}

func logger(number int) *slog.Logger {
	if os.Getenv(logEnv) == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, nil)).With("instance", number)
}

// obey does what it is told until Quit or the end.
func (w *worker) obey(in *gob.Decoder) {
	for {
		var c Command
		if in.Decode(&c) != nil {
			return
		}
		switch c.Op {
		case Write:
			w.writeRate.Store(int64(c.Rate))
			if c.Rate == 0 {
				w.writing.Lock()
				w.writing.Unlock() //nolint:staticcheck // nothing to protect: those that hold it have ended
			}
		case Sweep:
			w.sweep()
		case Quit:
			return
		}
		w.rec.done(c.ID)
	}
}

// send reports until over, and once more.
func (w *worker) send(out *gob.Encoder, over <-chan struct{}) error {
	for last := false; ; {
		if err := out.Encode(w.rec.take()); err != nil || last {
			return err
		}
		select {
		case <-time.After(reportEvery):
		case <-over:
			last = true
		}
	}
}

func (w *worker) watchHealth(over <-chan struct{}) {
	trusted := false
	timer := time.NewTicker(healthEvery)
	defer timer.Stop()
	for {
		h := w.instance.Health()
		felt := Felt{Sessions: h.Sessions, Errors: h.Errors}
		if h.Trusted != trusted {
			trusted = h.Trusted
			w.rec.trust(Trust{At: clock.Now(), Trusted: trusted}, felt)
		} else {
			w.rec.felt(felt)
		}
		w.rec.settle(func() bool { return w.instance.Health().Pending == 0 })
		select {
		case <-timer.C:
		case <-over:
			return
		}
	}
}
