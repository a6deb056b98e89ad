package tieredtest

import (
	"context"
	"sync"

	"github.com/tandemcache/tandem/tiered"
)

// Source is what a cache loads from: a table in memory, for tests that need no real one. The zero value is empty. Its
// methods may be called concurrently.
type Source[V any] struct {
	mu      sync.Mutex
	rows    map[string]V
	calls   int
	err     error
	blocked *block
}

type block struct {
	reached, released chan struct{}
	reach             func()
}

// Load is a tiered.LoadFunc. It returns tiered.ErrNotFound for a key that was not set.
func (s *Source[V]) Load(ctx context.Context, key string) (V, error) {
	s.mu.Lock()
	s.calls++
	v, ok := s.rows[key]
	err, blocked := s.err, s.blocked
	s.mu.Unlock()
	if err == nil && !ok {
		err = tiered.ErrNotFound
	}
	if blocked != nil {
		blocked.reach()
		select {
		case <-blocked.released:
		case <-ctx.Done():
			return v, ctx.Err()
		}
	}
	return v, err
}

// Set commits a value.
func (s *Source[V]) Set(key string, v V) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rows == nil {
		s.rows = make(map[string]V)
	}
	s.rows[key] = v
}

// Delete removes a value.
func (s *Source[V]) Delete(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.rows, key)
}

// Calls returns how often Load was called.
func (s *Source[V]) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// Fail makes every Load return err. Nil: no more.
func (s *Source[V]) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// Block makes every Load that begins from now on wait between reading its value and returning it, until release is called:
// time for a test to commit something newer. reached is closed when the first Load has read. A Load whose context ends
// meanwhile returns its error.
func (s *Source[V]) Block() (reached <-chan struct{}, release func()) {
	b := &block{reached: make(chan struct{}), released: make(chan struct{})}
	b.reach = sync.OnceFunc(func() { close(b.reached) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocked = b
	return b.reached, sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.blocked == b {
			s.blocked = nil
		}
		close(b.released)
	})
}
