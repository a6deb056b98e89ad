package local

import (
	"math/bits"
	"sync/atomic"
	"unsafe"
)

const (
	minSlots = 1 << 10
	maxSlots = 1 << 24
)

// slots are where a hit looks first, and what tickets are compared with.
//
// Ristretto decides what is kept and keeps it; but asking it costs more than the rest of a hit: a pool of buffers, a lock and
// a map. A slot's entry saves that. It is one of the entries that Ristretto holds, of any key that hashes
// to the slot; keys that share a slot take turns, and the others of them are asked for in Ristretto.
type slots[V any] struct {
	all   []slot[V]
	shift uint
}

type slot[V any] struct {
	// version counts evictions of the slot's keys, for tickets. It is never reset: with 64 bits it does not come round.
	version atomic.Uint64
	// entry is one that Ristretto holds, or nil; see Store.show and Store.drop for who takes it out.
	entry atomic.Pointer[Entry[V]]
}

// newSlots returns about one slot an entry.
func newSlots[V any](entries int64) slots[V] {
	n := min(max(entries, minSlots), maxSlots)
	logN := bits.Len64(uint64(n - 1))
	return slots[V]{all: make([]slot[V], 1<<logN), shift: uint(64 - logN)}
}

// of takes the hash's high bits: Ristretto picks its shard by the low ones.
func (s *slots[V]) of(hash uint64) *slot[V] { return &s.all[hash>>s.shift] }

func (s *slots[V]) bytes() int64 { return int64(len(s.all)) * int64(unsafe.Sizeof(slot[V]{})) }
