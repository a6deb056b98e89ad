package local

import (
	"unsafe"

	"github.com/tandemcache/tandem/internal/heapsize"
)

// Ristretto's MaxCost is a sum of the costs it is told, not bytes of heap. The figures here turn the one into the other;
// TestHeapAgainstBudget holds them against the real heap.
const (
	// perItem is what Ristretto keeps for one item in its maps: 48 bytes and an 8-byte key in the store, 16 in the
	// policy. Go's maps are between 7/16 and 7/8 full; the store's 256 parts fill in step, so the emptier end counts.
	perItem = 170
	// typicalEntry is the size of entry that the number of counters and slots is planned for. A budget filled with
	// smaller ones has fewer counters an entry and more keys a slot: a slightly lower hit ratio, nothing else.
	typicalEntry = 1 << 10
	// countersPerEntry is what Ristretto's authors recommend; with one instead of ten, 2 to 14 points of hit ratio go.
	countersPerEntry = 10
	// writeBuffer is Ristretto's buffer of 32,768 pointers.
	writeBuffer = 32768 * 8
	// shards is the fixed part of Ristretto's 256 maps, its timers, and of what is counted in parts.
	shards = 128 << 10
)

// plan sizes the fixed parts of a store for a budget.
type plan struct {
	entries  int64
	counters int64
}

func planFor(bytes int64) plan {
	entries := max(bytes/typicalEntry, 1)
	return plan{entries: entries, counters: entries * countersPerEntry}
}

// fixed returns the bytes of heap that a store takes while it is empty.
func (p plan) fixed(slots int64) int64 {
	sketch := powerOfTwo(p.counters) * 2      // four rows of four bits a counter
	bloom := powerOfTwo(p.counters*96/10) / 8 // 9.6 bits a counter for one false positive in a hundred
	return sketch + bloom + writeBuffer + shards + slots
}

func powerOfTwo(n int64) int64 {
	p := int64(1)
	for p < n {
		p <<= 1
	}
	return p
}

// coster tells what an entry costs in bytes of heap.
type coster[V any] struct{ user func(V) int64 }

func (c coster[V]) of(e *Entry[V]) int64 {
	own := heapsize.Class(int64(unsafe.Sizeof(*e))) + heapsize.Class(int64(len(e.key))) + perItem
	if tags := e.ticket.tags; tags != nil {
		own += heapsize.Class(int64(unsafe.Sizeof(*tags))) + heapsize.Class(int64(len(tags.slots))*int64(unsafe.Sizeof(tags.slots[0])))
	}
	if e.Absent {
		return own
	}
	if c.user != nil {
		return own + max(c.user(e.Value), 0)
	}
	return own + heapsize.Of(&e.Value)
}
