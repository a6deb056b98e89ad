package local

import (
	"math/rand/v2"
	"time"
)

// maxLook is how many slots Sample looks at: some microseconds.
const maxLook = 4096

// Sample returns an entry that may be served now, and its key; nil if it finds none near the place where it happens to look.
// It counts as no use of the entry.
func (s *Store[V]) Sample() (key string, e *Entry[V]) {
	n := len(s.slots.all)
	start := rand.IntN(n)
	for i := range min(n, maxLook) {
		if e := s.slots.all[(start+i)%n].entry.Load(); e != nil && s.Serves(e) {
			return e.key, e
		}
	}
	return "", nil
}

// Serves reports whether e may be served now. That it may, more than MaxStaleness after a moment that is after e's ticket,
// means that all invalidations from before that moment have been applied, and that none was of e: see fresh.
func (s *Store[V]) Serves(e *Entry[V]) bool {
	_, ok := s.servable(e)
	return ok
}

// At returns the time of the ticket that the entry was stored under, by the clock of internal/mono.
func (e *Entry[V]) At() int64 { return e.ticket.taken() }

// Held returns what is held for key and may be served, now or when the session has a proof again, or expired within ago. It is
// nil if there is none. It counts as no use where nothing is held.
func (s *Store[V]) Held(key string, ago time.Duration) *Entry[V] {
	hash := s.hash(key)
	slot := s.slots.of(hash)
	e := slot.entry.Load()
	if e == nil || !e.is(hash, key) || e.state.Load() == gone {
		if !s.holds(hash) {
			return nil
		}
		if e = s.find(slot, hash, key); e == nil {
			return nil
		}
	}
	if s.now()-e.expires > int64(ago) || e.state.Load() == gone || !e.ticket.holds() {
		return nil
	}
	return e
}

// holds asks without counting as a use, which most keys that somebody changes are not.
func (s *Store[V]) holds(hash uint64) bool {
	s.writes.RLock()
	defer s.writes.RUnlock()
	if s.closed {
		return false
	}
	_, held := s.items.GetTTL(hash)
	return held
}
