package local

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/tandemcache/tandem/internal/mono"
)

// maxPartitions keeps what partitions take of the smallest budget to a tenth.
const maxPartitions = 1 << 10

// partition is a part of the keys, of which invalidations are heard by a way of its own. Which part a key is in, who takes a
// [Ticket] says, and always says the same. Everything else follows from the ticket: the entry stored under it belongs to its
// session, and the session to its partition.
type partition struct {
	mu      sync.Mutex // orders replacements of current
	current atomic.Pointer[session]
	// tagsEvicted is the number of the last eviction of tags of this partition: see tags.
	tagsEvicted atomic.Uint64
}

// newPartitions returns n of them without a session.
func newPartitions(n int) []partition {
	all := make([]partition, n)
	for i := range all {
		all[i].current.Store(newSession(&all[i], mono.Never))
	}
	return all
}

func partitionBytes(n int) int64 {
	return int64(n) * int64(unsafe.Sizeof(partition{})+unsafe.Sizeof(session{}))
}

// Begin starts a session of a partition: from here on every invalidation of its keys is heard. All entries and tickets of the
// partition from before it are void; those of others are not touched. The new session has no proof yet, so its entries live on
// their own age until the first [Store.Prove].
//
// This and whatever else takes a partition panics if that is not one of 0 to Options.Partitions-1.
func (s *Store[V]) Begin(partition int) {
	s.partitions[partition].replace(func(*session) int64 { return mono.Never })
}

// End ends a partition's session: invalidations of its keys may be missed from here on. All its entries and tickets from before
// it are void; what is stored until the next Begin is served for MaxStaleness from its ticket and not longer.
func (s *Store[V]) End(partition int) {
	s.partitions[partition].replace(func(*session) int64 { return mono.Never })
}

// Flush makes all entries and tickets of a partition void and leaves its session's proof as it is: what is stored from here on
// is vouched for as before.
func (s *Store[V]) Flush(partition int) {
	s.partitions[partition].replace(func(old *session) int64 { return old.proof.Load() })
}

// Prove says that every invalidation of a partition's keys that was issued before at (by the monotonic clock of internal/mono)
// has been applied to this store through Evict, EvictTags or Flush.
func (s *Store[V]) Prove(partition int, at int64) { s.partitions[partition].current.Load().prove(at) }

// Proof returns the proof of a partition's current session, or a time before any other if it has none.
func (s *Store[V]) Proof(partition int) int64 {
	return s.partitions[partition].current.Load().proof.Load()
}

// replace swaps the session for a new one. The mutex orders the callers, so that a Flush that copies a proof cannot
// overwrite the session that a concurrent End has just made unproven.
func (p *partition) replace(proof func(old *session) int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.current.Load()
	next := newSession(p, proof(old))
	old.over.Store(true)
	p.current.Store(next)
}
