package local

import (
	"sync/atomic"

	"github.com/tandemcache/tandem/internal/mono"
)

// session is what entries belong to: the time from one logical flush to the next. It owns the proof of its own time, so
// that the proof of a later session can never vouch for an entry of an earlier one.
type session struct {
	// proof is the latest time, by mono, of which it is known that every invalidation older than it has been applied.
	// It only grows. Written by prove, read at every hit.
	proof atomic.Int64
}

func newSession(proof int64) *session {
	s := &session{}
	s.proof.Store(proof)
	return s
}

// prove raises the proof to at; a late or repeated report of an earlier time changes nothing.
func (s *session) prove(at int64) {
	for {
		old := s.proof.Load()
		if at <= old || s.proof.CompareAndSwap(old, at) {
			return
		}
	}
}

// Begin starts a session: from here on every invalidation is heard. All entries and tickets from before it are void.
// The new session has no proof yet, so its entries live on their own age until the first [Store.Prove].
func (s *Store[V]) Begin() { s.replace(func(*session) int64 { return mono.Never }) }

// End ends the session: invalidations may be missed from here on. All entries and tickets from before it are void; what
// is stored until the next Begin is served for MaxStaleness from its ticket and not longer.
func (s *Store[V]) End() { s.replace(func(*session) int64 { return mono.Never }) }

// Flush makes all entries and tickets void and leaves the session's proof as it is: what is stored from here on is
// vouched for as before.
func (s *Store[V]) Flush() { s.replace(func(old *session) int64 { return old.proof.Load() }) }

// Prove says that every invalidation that was issued before at (by the monotonic clock of internal/mono) has been
// applied to this store through Evict or Flush.
func (s *Store[V]) Prove(at int64) { s.current.Load().prove(at) }

// Proof returns the current session's proof, or a time before any other if it has none.
func (s *Store[V]) Proof() int64 { return s.current.Load().proof.Load() }

// replace swaps the session for a new one. The mutex orders the callers, so that a Flush that copies a proof cannot
// overwrite the session that a concurrent End has just made unproven.
func (s *Store[V]) replace(proof func(old *session) int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current.Store(newSession(proof(s.current.Load())))
}
