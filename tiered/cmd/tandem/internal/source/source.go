// Package source is the database of the demonstrations: it knows every version of every row, takes its time to answer, and
// counts how often it is asked.
package source

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/history"
)

// Source may be used concurrently.
type Source struct {
	delay time.Duration
	loads atomic.Int64
	took  atomic.Int64 // nanoseconds, of all loads

	mu   sync.RWMutex // protects rows
	rows map[string]*Row
}

// New returns a source that takes delay for each load. It has every key, in version 1 until it is changed.
func New(delay time.Duration) *Source {
	return &Source{delay: delay, rows: make(map[string]*Row)}
}

// Delay returns what a load takes.
func (s *Source) Delay() time.Duration { return s.delay }

// Row is one row of the source.
type Row struct {
	Key string
	// History is what has been acknowledged of the row's changes.
	History history.Key
	// Writing is held from a change of the row until the cache has acknowledged it: two concurrent Sets of one key have no
	// order that a checker could hold them to.
	Writing sync.Mutex

	version atomic.Uint64
	loads   atomic.Int64
	took    atomic.Int64 // nanoseconds, of the last load
	held    atomic.Pointer[Hold]
}

// Row returns the row of key, made if need be.
func (s *Source) Row(key string) *Row {
	s.mu.RLock()
	row := s.rows[key]
	s.mu.RUnlock()
	if row != nil {
		return row
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if row = s.rows[key]; row == nil {
		row = &Row{Key: key}
		row.version.Store(1)
		s.rows[key] = row
	}
	return row
}

// Keys returns the keys that were ever asked for.
func (s *Source) Keys() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	keys := make([]string, 0, len(s.rows))
	for key := range s.rows {
		keys = append(keys, key)
	}
	return keys
}

// Load is the cache's loader. It reads the row first and takes its time then: what it returns is as old as a load can be.
func (s *Source) Load(ctx context.Context, key string) (User, error) {
	row := s.Row(key)
	began := time.Now()
	u := row.User()
	s.loads.Add(1)
	row.loads.Add(1)
	var err error
	if h := row.held.Swap(nil); h != nil {
		err = h.wait(ctx)
	} else {
		err = sleep(ctx, s.delay)
	}
	took := time.Since(began)
	s.took.Add(int64(took))
	row.took.Store(int64(took))
	return u, err
}

// Loads returns how many loads there were, and how long they took on average.
func (s *Source) Loads() (n int64, average time.Duration) {
	if n = s.loads.Load(); n > 0 {
		average = time.Duration(s.took.Load() / n)
	}
	return n, average
}

// Change commits a new version of the row and returns it.
func (r *Row) Change() uint64 { return r.version.Add(1) }

// Version returns the row's current version.
func (r *Row) Version() uint64 { return r.version.Load() }

// User returns the row's current value.
func (r *Row) User() User { return UserAt(r.Key, r.Version()) }

// Loads returns how many loads of the row there were, and how long the last of them took.
func (r *Row) Loads() (n int64, took time.Duration) {
	return r.loads.Load(), time.Duration(r.took.Load())
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
