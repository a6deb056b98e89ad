package local

import (
	"hash/maphash"

	"github.com/tandemcache/tandem/internal/mono"
)

// Ticket is the right to store what is read after it was taken. It stays good until the key is evicted, the key's partition is
// flushed, or its session ends. The zero Ticket is never good.
type Ticket struct {
	stamp
	version uint64 // of the key's slot
	seq     uint64 // of the evictions of tags
}

// stamp is what an entry keeps of its ticket.
type stamp struct {
	session *session
	// at is when the ticket was taken, plus vouchesNot if only the session's proof vouches for it: such a sum is earlier than
	// every reading of the clock, so that nothing has to tell them apart on a hit.
	at   int64
	tags *tagged // nil if it has none
}

// vouchesNot makes any reading of the clock earlier than mono.Never, and is far enough from the ends of int64 for a difference to
// that.
const vouchesNot = 2 * mono.Never

// taken returns when the ticket was taken.
func (t *stamp) taken() int64 {
	if t.at < mono.Never {
		return t.at - vouchesNot
	}
	return t.at
}

// At returns when the ticket was taken, by the clock of internal/mono.
func (t Ticket) At() int64 { return t.stamp.taken() }

// Ticket returns a ticket for key, which is in the partition that the caller says: a key is always in the same one, or what its
// partition hears does not reach its entry. Take it before reading the value from L2 or from the source: it is the reading, not
// the storing, that an invalidation must be later than.
func (s *Store[V]) Ticket(partition int, key string) Ticket {
	t := Ticket{stamp: stamp{at: mono.Now(), session: s.partitions[partition].current.Load()}}
	t.seq = s.tags.seq.Load()
	t.version = s.slots.of(s.hash(key)).version.Load()
	return t
}

// Good reports whether what was read under t may be served to a reader that starts now: the key was not evicted since, nor
// any tag of its partition, whichever the value has, the session is the current one, and either the ticket or the session's
// proof is at most MaxStaleness old.
func (s *Store[V]) Good(key string, t Ticket) bool {
	return s.storable(key, t) && t.session.home.tagsStand(t.seq)
}

// storable is Good for a ticket that knows its value's tags.
func (s *Store[V]) storable(key string, t Ticket) bool {
	return t.session != nil && s.fresh(t.stamp) && s.slots.of(s.hash(key)).version.Load() == t.version && t.holds()
}

// Live is Good for a ticket whose key's evictions the caller follows itself: it compares tags, session and age alone, so that
// evictions of other keys of the same slot do not count.
func (s *Store[V]) Live(t Ticket) bool {
	return t.session != nil && s.fresh(t.stamp) && t.session.home.tagsStand(t.seq) && !t.session.over.Load()
}

// fresh is the age half of the rule. The order of its three readings, and that state and session come after it, is what makes
// a hit right when the process stops in the middle of one:
//
//  1. a reader has found the entry, and stops here;
//  2. the connection delivers what piled up meanwhile: first an invalidation of this very key, then a heartbeat (a fresh
//     proof);
//  3. the reader goes on.
//
// Were the state read first, at 1, the reader would go on to see a fresh proof and serve the old value. With the proof read
// first and the state last, a proof that vouches for a time comes with the states of that time. And now must be read after
// the proof: read before it, a pause between the two would not count as age.
func (s *Store[V]) fresh(t stamp) bool {
	proof := t.session.proof.Load()
	now := s.now()
	return now-max(t.at, proof) <= s.maxStaleness
}

// holds is the other half, but for evictions of the key: the session is the current one of its partition, and no tag was
// evicted since.
func (t *stamp) holds() bool {
	return !t.session.over.Load() && (t.tags == nil || t.tags.stand(t.session.home))
}

func (s *Store[V]) hash(key string) uint64 { return maphash.String(s.seed, key) }

// Evict drops key's entry, and makes every ticket for it taken until now void. Tickets for other keys of its slot become void
// with it: what is read under them is not stored. Other keys' entries stay, however many are evicted.
func (s *Store[V]) Evict(key string) {
	s.writes.RLock() // before change, as in put: see writes
	defer s.writes.RUnlock()
	hash := s.hash(key)
	defer s.change(hash)()
	slot := s.slots.of(hash)
	slot.version.Add(1) // before release: see enliven
	if e := slot.entry.Load(); e != nil && e.is(hash, key) {
		s.drop(e) // Ristretto may have given it up, and not told yet: see change
	}
	s.release(hash)
}

// NotAfter returns the ticket as one taken at at, if that is earlier. It is for a value whose validity was established
// earlier than the value was read.
func (t Ticket) NotAfter(at int64) Ticket {
	t.at = min(t.at, at)
	return t
}

// Unaged returns the ticket as one whose age vouches for nothing: what is read under it may be served only while the session's
// proof is young enough.
func (t Ticket) Unaged() Ticket {
	if t.at >= mono.Never {
		t.at += vouchesNot
	}
	return t
}
