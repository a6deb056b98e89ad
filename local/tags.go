package local

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

const (
	minTagSlots = 1 << 10
	maxTagSlots = 1 << 20
)

// tags are what entries with tags are compared with, at each hit.
//
// Which tags a value has is known only when it has been read. So a ticket notes how many evictions of tags there have been,
// and an entry may be served while each of its tags was last evicted no later than that. Tags hash to slots; those that share
// one are evicted together.
//
// A tag is evicted in one partition at a time: that it is everywhere is heard once in each, not at once. Slots for each tag
// and partition would be used up as many times faster, and it is by slots that evictions void entries of other tags. So the
// partitions share the slots, and each has the number of its own last eviction beside them: an entry is void if both are later
// than its ticket. They are if one of its tags was evicted in its partition. Else they are only if a tag of it was evicted in
// another partition since, and another tag in its own: what was read while a tag's eviction went through the partitions may
// be read once more.
type tags struct {
	mu  sync.Mutex    // orders evictions, and the making of all
	seq atomic.Uint64 // of all partitions
	// all has the number of the last eviction of each slot. It is made when the first entry with tags comes: most caches have
	// none. What is not known of the time before counts as evicted then.
	all atomic.Pointer[[]atomic.Uint64]
}

// evict makes every ticket of the partition taken until now void for values with a tag of one of these hashes.
//
// The slots come first, the number second: a ticket with this number was taken when all of them were evicted.
func (t *tags) evict(in *partition, hashes []uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.seq.Load() + 1
	if all := t.all.Load(); all != nil {
		for _, h := range hashes {
			slotOf(*all, h).Store(n)
		}
	}
	in.tagsEvicted.Store(n)
	t.seq.Store(n)
}

// tagsStand reports whether no tag of the partition was evicted since a ticket with this number was taken.
func (p *partition) tagsStand(seq uint64) bool { return p.tagsEvicted.Load() <= seq }

// slots returns the tags' slots, about one for each of n entries.
func (t *tags) slots(n int64) []atomic.Uint64 {
	if all := t.all.Load(); all != nil {
		return *all
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if all := t.all.Load(); all != nil {
		return *all
	}
	all := make([]atomic.Uint64, powerOfTwo(min(max(n, minTagSlots), maxTagSlots)))
	for i := range all {
		all[i].Store(t.seq.Load())
	}
	t.all.Store(&all)
	return all
}

func slotOf(all []atomic.Uint64, hash uint64) *atomic.Uint64 { return &all[hash&uint64(len(all)-1)] }

// tagged is what is compared for one entry.
type tagged struct {
	seq   uint64 // the ticket's
	slots []*atomic.Uint64
}

// stand reports whether none of the tags was evicted in a partition since the ticket was taken.
func (t *tagged) stand(in *partition) bool {
	for _, slot := range t.slots {
		if slot.Load() > t.seq {
			return in.tagsStand(t.seq)
		}
	}
	return true
}

// Tagged returns t for a value that has these tags: what is stored under it is served until one of them is evicted in the
// ticket's partition, and not at all if that has happened since t was taken.
func (s *Store[V]) Tagged(t Ticket, tags []string) Ticket {
	t.tags = nil
	if len(tags) == 0 {
		return t
	}
	all := s.tags.slots(s.entries)
	t.tags = &tagged{seq: t.seq, slots: make([]*atomic.Uint64, len(tags))}
	for i, tag := range tags {
		t.tags.slots[i] = slotOf(all, maphash.String(s.seed, tag))
	}
	return t
}

// EvictTags drops the entries of a partition that have one of these tags, however many they are, and makes every ticket of the
// partition taken until now void for values with one.
func (s *Store[V]) EvictTags(partition int, tags ...string) {
	hashes := make([]uint64, len(tags))
	for i, tag := range tags {
		hashes[i] = maphash.String(s.seed, tag)
	}
	s.tags.evict(&s.partitions[partition], hashes)
}
