package local

import (
	"math"
	"time"
)

// RefreshPause is how long nobody else is told that an entry is due for a refresh: one reader in this time, not every one.
const RefreshPause = time.Second

// inMs returns d in ms, within the bounds of due: what is due earlier than 49 days before its expiry is so then.
func inMs(d time.Duration) uint32 {
	return uint32(min(max(d.Milliseconds(), 0), math.MaxUint32))
}

func (e *Entry[V]) isDue(now int64) bool {
	due := e.due.Load()
	return due > 0 && now >= e.expires-int64(due)*int64(time.Millisecond)
}

// claim reports whether the caller is the one who is told that the entry is due, which is so again after RefreshPause.
func (e *Entry[V]) claim(now int64) bool {
	due := e.due.Load()
	return e.isDue(now) && e.due.CompareAndSwap(due, inMs(time.Duration(e.expires-now)-RefreshPause))
}

// Expired returns the entry of key if it has expired, at most within ago, and Stands. It is nil for a key that is known not
// to exist, and for an entry that has not expired.
func (s *Store[V]) Expired(key string, within time.Duration) *Entry[V] {
	hash := s.hash(key)
	slot := s.slots.of(hash)
	e := slot.entry.Load()
	if e == nil || !e.is(hash, key) || e.state.Load() == gone {
		e = s.find(slot, hash, key)
	}
	if e == nil || e.Absent {
		return nil
	}
	if ago := s.now() - e.expires; ago < 0 || ago > int64(within) || !s.Stands(e) {
		return nil
	}
	return e
}

// Stands reports whether an entry might be served now if its expiry did not matter: neither its key nor one of its tags was
// evicted, it was not replaced, and its session is the current one and proves that it hears. The order of the readings matters
// as for a hit.
func (s *Store[V]) Stands(e *Entry[V]) bool {
	return s.fresh(e.ticket) && e.state.Load() == live && e.ticket.holds()
}
