package local

import (
	"math"
	"time"
)

// RefreshPause is how long nobody else is told that an entry is due for a refresh: one reader in this time, not every one.
const RefreshPause = time.Second

// refreshAt makes the entry due after in from now; not positive means never.
func (e *Entry[V]) refreshAt(now int64, in time.Duration) {
	at := now + int64(in)
	if in <= 0 || at < now {
		at = math.MaxInt64
	}
	e.refresh.Store(at)
}

// claim reports whether the caller is the one who is told that the entry is due.
func (e *Entry[V]) claim(now int64) bool {
	at := e.refresh.Load()
	return now >= at && e.refresh.CompareAndSwap(at, now+int64(RefreshPause))
}

// Ticket returns the ticket under which the entry was stored.
func (e *Entry[V]) Ticket() Ticket { return e.ticket }

// Expired returns the entry of key if it has expired, at most within ago, and might be served if it had not: it was not
// evicted, its session is the current one and proves that it hears. Who gives it out later asks Good again for its ticket.
// It is nil for a key that is known not to exist, and for an entry that has not expired.
func (s *Store[V]) Expired(key string, within time.Duration) *Entry[V] {
	hash := s.hash(key)
	slot := s.slots.of(hash)
	e := slot.entry.Load()
	if e == nil || !e.is(hash, key) || e.gone.Load() {
		e = s.find(slot, hash, key)
	}
	if e == nil || e.Absent || !s.fresh(e.ticket) {
		return nil
	}
	ago := s.now() - e.expires
	if ago < 0 || ago > int64(within) || !s.unmoved(slot, e.ticket) {
		return nil
	}
	return e
}
