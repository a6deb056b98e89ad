package local

import (
	"runtime"
	"sync/atomic"
	"unsafe"
)

// door lets lookups pass without a lock and lets Close wait for the last of them.
//
// Ristretto's Close is not safe beside its Get: it closes a channel that a Get may be sending to. A read lock around each
// lookup would cost more than the lookup. So each lookup counts itself in and out, in one of many slots that no two cores
// are likely to share, and Close shuts the door and waits until as many have come out as went in. The count of those that
// went in is wanted anyway: it is the number of lookups.
type door struct {
	shut  atomic.Bool
	slots [doorSlots]doorSlot
}

const (
	doorSlots = 64
	cacheLine = 64
)

type doorSlot struct {
	in, out atomic.Uint64
	_       [cacheLine - 16]byte
}

// enter returns the slot to leave by, or nil if the door is shut.
//
// Adding to in comes before reading shut, and Close sets shut before it sums: so either the lookup sees the door shut, or
// Close sees the lookup.
func (d *door) enter() *doorSlot {
	slot := &d.slots[pick()]
	slot.in.Add(1)
	if d.shut.Load() {
		slot.out.Add(1)
		return nil
	}
	return slot
}

func (s *doorSlot) leave() { s.out.Add(1) }

// pick spreads goroutines over the slots by the address of their stack: two goroutines that run at once have two stacks,
// and one goroutine keeps its slot in its core's cache. The address is only hashed, never followed.
func pick() uint64 {
	var here byte
	at := uint64(uintptr(unsafe.Pointer(&here))) //nolint:gosec // G103: used as a number that differs between goroutines
	return at >> 10 * 0x9E3779B97F4A7C15 >> 58
}

// close shuts the door and returns once nobody is inside. A lookup is inside for some hundred nanoseconds, so the wait is
// a yield or two.
func (d *door) close() {
	d.shut.Store(true)
	for d.inside() {
		runtime.Gosched()
	}
}

func (d *door) inside() bool {
	var in, out uint64
	// Out before in: a lookup that leaves in between is then counted as inside, never the other way round.
	for i := range d.slots {
		out += d.slots[i].out.Load()
	}
	for i := range d.slots {
		in += d.slots[i].in.Load()
	}
	return in != out
}

// entered returns how many lookups there were.
func (d *door) entered() uint64 {
	var n uint64
	for i := range d.slots {
		n += d.slots[i].in.Load()
	}
	return n
}
