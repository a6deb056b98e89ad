package tiered

import (
	"sync"
	"time"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/remote"
)

// gate decides whether L2 may be believed. It is open while the last heartbeat succeeded and was sent within MaxStaleness:
// then this Redis took writes at that time, so it is the one that everybody's invalidations go to, and its epoch of the
// cache was known. A Redis that answers reads alone (a demoted master, one cut off from its replicas) closes the gate. As a
// heartbeat that fails closes it at once, it is also what keeps an outage from costing every Get a timeout: the breaker,
// with the next heartbeat as its probe.
//
// A server that has taken over may lack invalidations that the one before had confirmed. Each instance repeats its own as
// soon as it sees the new server; the gate stays closed for MaxStaleness more, so that all who live have done so.
type gate struct {
	bound int64 // nanoseconds

	mu       sync.Mutex // protects what follows
	last     trust      // of the last heartbeat that succeeded; zero before the first
	failed   error      // of the last heartbeat, nil if it succeeded
	closed   int64      // a heartbeat sent before this is not believed: an epoch of our own making is newer than it
	cautious int64      // with a heartbeat sent before this, what L2 says may be returned and not kept
	grace    int64      // a heartbeat sent before this does not open it
	moves    uint64     // how often a server has taken over
	changed  chan struct{}
}

// trust is what one heartbeat has shown.
type trust struct {
	sent, received int64 // by mono
	redisNow       int64 // ms, some time between the two
	epoch          uint64
	node           *node // that took it
}

// now returns the time of Redis in ms, ahead of it by the heartbeat's round trip at most and never behind.
func (t trust) now() int64 { return t.redisNow + (mono.Now()-t.sent)/int64(time.Millisecond) }

// atLeast returns a time of Redis in ms that has come: behind it by the heartbeat's round trip at most.
func (t trust) atLeast() int64 { return t.redisNow + (mono.Now()-t.received)/int64(time.Millisecond) }

// latest returns the time of Redis in ms that it was at, by mono, at the latest.
func (t trust) latest(at int64) int64 { return t.redisNow + (at-t.sent)/int64(time.Millisecond) + 1 }

// about returns the time of Redis in ms, off by half the heartbeat's round trip at most.
func (t trust) about() int64 { return (t.now() + t.atLeast()) / 2 }

func newGate(bound time.Duration) *gate {
	return &gate{bound: int64(bound), changed: make(chan struct{}), closed: mono.Never, cautious: mono.Never, grace: mono.Never}
}

// report takes a heartbeat's outcome, of node n.
func (g *gate) report(b pubsub.BeatReport, n *node) {
	epoch, err := uint64(0), b.Err
	if err == nil {
		epoch, err = remote.ParseEpoch(b.Version)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if b.Moved {
		g.moves++
	}
	if g.failed = err; err == nil {
		// To an instance that is new it matters for as long as others may be in theirs.
		if b.Kept && (b.Moved || (g.last.received == 0 && int64(b.KeptFor) < 2*g.bound)) {
			g.grace = mono.Now() + g.bound
		}
		g.last = trust{sent: b.Sent, received: b.Received, redisNow: b.RedisNow, epoch: epoch, node: n}
	}
	close(g.changed)
	g.changed = make(chan struct{})
}

// shut makes the gate wait for a heartbeat sent after now: every epoch known so far is of no use.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = mono.Now()
}

// doubt says that the epoch may have changed: until a heartbeat sent after now tells, L2 is believed as it was (its word is
// at most MaxStaleness old), but nothing it says enters L1, where it could stay longer.
func (g *gate) doubt() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cautious = mono.Now()
}

// opening is what the gate knows at one moment.
type opening struct {
	trust
	gate    *gate           // that was looked at
	open    bool            // L2 may be believed, on the node
	keep    bool            // and what it says may be kept in L1
	move    uint64          // which server it is, counted
	cleared uint64          // that of pending, from before anything is read
	err     error           // why it is not open, if a heartbeat failed
	wait    <-chan struct{} // closed at the next report; nil if there is no reason to expect that it opens soon
}

func (g *gate) look() opening {
	g.mu.Lock()
	defer g.mu.Unlock()
	o := opening{trust: g.last, gate: g, err: g.failed, move: g.moves}
	if g.failed != nil {
		return o
	}
	if g.last.sent <= g.closed || g.last.received == 0 {
		o.wait = g.changed
		return o
	}
	now := mono.Now()
	// Sent after the grace: until its end another instance may find that the server lacks something, and start a new epoch.
	o.open = now-g.last.sent <= g.bound && g.last.sent >= g.grace
	o.keep = g.last.sent > g.cautious
	return o
}

// same reports whether no server has taken over since o. What was read since o may come from another one otherwise: its
// connection was dialled after the heartbeat that found it.
func (o opening) same() bool {
	g := o.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.moves == o.move
}

// moved returns how often a server has taken over.
func (g *gate) moved() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.moves
}

// known returns what the last good heartbeat has shown, however long ago.
func (g *gate) known() (trust, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last, g.last.received != 0
}
