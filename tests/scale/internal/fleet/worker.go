//go:build linux

package fleet

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/tests/scale/internal/meter"
	"github.com/tandemcache/tandem/tiered"
)

const (
	workerEnv = "TANDEM_SCALE_WORKER"
	// startWithin bounds how long a process's instances take to be ready.
	startWithin = 2 * time.Minute
	// patience with Redis is long: a figure is wanted from a busy machine, not an error.
	redisTimeout = 20 * time.Second
)

// Main makes this process a worker if it was started as one, and does not return then. TestMain calls it first.
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

type worker struct {
	cfg    Config
	caches []*tiered.Cache[[]byte]
	buses  []*tiered.Bus // of the caches that do not make their own

	goroutines int   // before the first instance
	heap       int64 // likewise
}

// run obeys until commands end.
func run(commands io.Reader, reports io.Writer) (err error) {
	in, out := gob.NewDecoder(commands), gob.NewEncoder(reports)
	var cfg Config
	if err := in.Decode(&cfg); err != nil {
		return err
	}
	rdb := cfg.client()
	defer func() { err = errors.Join(err, rdb.Close()) }()
	w := &worker{cfg: cfg, goroutines: runtime.NumGoroutine(), heap: meter.LiveHeap()}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.start(rdb); err != nil {
		return errors.Join(err, out.Encode(report{Failed: err.Error()}))
	}
	if err := out.Encode(report{}); err != nil {
		return err
	}
	for {
		var c command
		if in.Decode(&c) != nil {
			return nil // the harness has hung up
		}
		var r report
		switch c.Op {
		case look:
			r.State = w.look()
		case storm:
			r.Sent = w.storm(c.Storm)
		case use:
			r.CPU = meter.ProcessCPU()
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
}

func (c Config) client() redis.UniversalClient {
	if len(c.Cluster) > 0 {
		return redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Cluster})
	}
	return redis.NewClient(&redis.Options{Addr: c.Redis})
}

func (w *worker) start(rdb redis.UniversalClient) error {
	for range w.cfg.Instances {
		bus, err := w.bus(rdb)
		if err != nil {
			return err
		}
		c, err := tiered.New(rdb, w.cfg.Cache, tiered.Options[[]byte]{
			LocalBytes: w.cfg.LocalBytes, MaxStaleness: w.cfg.MaxStaleness, RedisTimeout: redisTimeout,
			Logger: slog.New(slog.DiscardHandler), Bus: bus,
		})
		if err != nil {
			return err
		}
		w.caches = append(w.caches, c)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	for _, c := range w.caches {
		if err := c.Ready(ctx); err != nil {
			return fmt.Errorf("not ready: %w", err)
		}
	}
	return nil
}

// bus returns one for one instance, nil where a cache's own will do.
func (w *worker) bus(rdb redis.UniversalClient) (*tiered.Bus, error) {
	if w.cfg.Partitions == 0 {
		return nil, nil //nolint:nilnil // what Options.Bus is for a cache that makes its own
	}
	b, err := tiered.NewBusWith(rdb, tiered.BusOptions{Partitions: w.cfg.Partitions, Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		w.buses = append(w.buses, b)
	}
	return b, err
}

func (w *worker) close() error {
	errs := make([]error, len(w.caches)+len(w.buses))
	var all sync.WaitGroup
	for i, c := range w.caches {
		all.Go(func() { errs[i] = c.Close() })
	}
	all.Wait()
	for i, b := range w.buses {
		errs[len(w.caches)+i] = b.Close()
	}
	return errors.Join(errs...)
}

func (w *worker) look() State {
	s := State{Goroutines: runtime.NumGoroutine() - w.goroutines, Heap: meter.LiveHeap() - w.heap, RSS: meter.RSS()}
	for _, c := range w.caches {
		if c.Health().LocalTrusted {
			s.Trusted++
		}
		n := c.Stats()
		s.Received += n.Received
		s.Sessions += n.Sessions
	}
	return s
}

func (w *worker) storm(s Storm) Sent {
	var calls, errs atomic.Uint64
	begin := time.Now()
	var all sync.WaitGroup
	for range s.Goroutines {
		all.Go(func() {
			keys := make([]string, s.Keys)
			for time.Since(begin) < s.For {
				n := calls.Add(1) - 1
				if s.Rate > 0 {
					due := time.Duration(float64(n) * float64(s.Keys) / float64(s.Rate) * float64(time.Second))
					time.Sleep(time.Until(begin.Add(due)))
				}
				for i := range keys {
					keys[i] = fmt.Sprintf("storm:%d", (n*uint64(s.Keys)+uint64(i))%uint64(s.Distinct))
				}
				if w.caches[0].Invalidate(context.Background(), keys...) != nil {
					errs.Add(1)
				}
			}
		})
	}
	all.Wait()
	n := calls.Load()
	return Sent{Calls: n, Keys: n * uint64(s.Keys), Errors: errs.Load(), Took: time.Since(begin), Ended: time.Now()}
}
