package local

import (
	"runtime"
	"sync/atomic"
	"unsafe"
)

// door lets uses of Ristretto's Get pass without a lock and lets Close wait for the last of them.
//
// Ristretto's Close is not safe beside its Get: it closes a channel that a Get may be sending to. So each use counts itself
// in and out, in one of many counters that no two cores are likely to share, and Close shuts the door and waits until as many
// have come out as went in.
type door struct {
	shut   atomic.Bool
	passes [spread]pass
}

const (
	spread    = 64 // counters that are one
	cacheLine = 64
)

type pass struct {
	in, out atomic.Uint64
	_       [cacheLine - 16]byte
}

// enter returns the pass to leave by, and the how manieth on it this is; or nil if the door is shut.
//
// Adding to in comes before reading shut, and Close sets shut before it sums: so either the user sees the door shut, or Close
// sees the user.
func (d *door) enter() (*pass, uint64) {
	p := &d.passes[pick()]
	n := p.in.Add(1)
	if d.shut.Load() {
		p.out.Add(1)
		return nil, n
	}
	return p, n
}

func (p *pass) leave() { p.out.Add(1) }

// pick spreads goroutines over the counters by the address of their stack: two goroutines that run at once have two stacks,
// and one goroutine keeps its counter in its core's cache. The address is only hashed, never followed.
func pick() uint64 {
	var here byte
	at := uint64(uintptr(unsafe.Pointer(&here))) //nolint:gosec // G103: used as a number that differs between goroutines
	return at >> 10 * 0x9E3779B97F4A7C15 >> 58
}

// close shuts the door and returns once nobody is inside. A user is inside for some hundred nanoseconds, so the wait is
// a yield or two.
func (d *door) close() {
	d.shut.Store(true)
	for d.inside() {
		runtime.Gosched()
	}
}

func (d *door) inside() bool {
	var in, out uint64
	// Out before in: a user who leaves in between is then counted as inside, never the other way round.
	for i := range d.passes {
		out += d.passes[i].out.Load()
	}
	for i := range d.passes {
		in += d.passes[i].in.Load()
	}
	return in != out
}

// counters are one counter, kept in parts that no two cores are likely to share.
type counters [spread]struct {
	n atomic.Uint64
	_ [cacheLine - 8]byte
}

func (c *counters) add() { c[pick()].n.Add(1) }

func (c *counters) sum() uint64 {
	var n uint64
	for i := range c {
		n += c[i].n.Load()
	}
	return n
}
