// Package history judges reads: it knows which versions of a key have been written, by whom and when the write had
// returned, and says of a read whether it is as new as the cache promises.
//
// The source gives each key's values versions that grow. A read is old if a newer version had been acknowledged, that is,
// its Set or Invalidate had returned nil, before the read began. By how long before is its lag. Two bounds hold: zero on the
// instance that wrote, MaxStaleness on the others.
package history

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

var base = time.Now()

// Now is the monotonic clock of all times in this package.
func Now() time.Duration { return time.Since(base) }

// ack is a write that has returned nil.
type ack struct {
	version uint64
	writer  int // the instance
	at      time.Duration
}

// Read is what a reader got.
type Read struct {
	Instance int
	Version  uint64
	Start    time.Duration // read before the Get began
}

// Verdict is what a read is worth.
type Verdict struct {
	// Lag is how long before the read began the first newer version had been acknowledged; zero if none had.
	Lag time.Duration
	// Own says that one of those newer versions was written by the reader's own instance.
	Own bool
}

// Old reports whether a newer version had been acknowledged.
func (v Verdict) Old() bool { return v.Lag > 0 }

// Key is the history of one key. The zero Key has none. It may be used concurrently.
type Key struct {
	// newest is the highest version in acks: all that is looked at for a read that is new enough.
	newest atomic.Uint64

	mu   sync.Mutex // protects acks
	acks []ack      // by version
}

// Acknowledge records that a write has returned nil, as of now. It is called right after the return.
func (k *Key) Acknowledge(version uint64, writer int) {
	k.insert(version, writer, Now)
}

// insert adds a write at the time that now returns. All that were acknowledged are kept: a judgement without them could
// only be too mild.
//
// The time is taken after newest is set, so that no read slips through between the two: one that begins after that time
// finds newest, and then waits here for the entry.
func (k *Key) insert(version uint64, writer int, now func() time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := len(k.acks)
	for i > 0 && k.acks[i-1].version > version {
		i--
	}
	k.newest.Store(max(k.newest.Load(), version))
	k.acks = slices.Insert(k.acks, i, ack{version, writer, now()})
}

// Judge says how old a read is. It is called after the Get has returned, when every write that had returned before the
// Get began is in the history.
func (k *Key) Judge(r Read) Verdict {
	if r.Version >= k.newest.Load() {
		return Verdict{}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var v Verdict
	for i := len(k.acks) - 1; i >= 0 && k.acks[i].version > r.Version; i-- {
		lag := r.Start - k.acks[i].at
		if lag <= 0 {
			continue // acknowledged while the read was under way, or later
		}
		v.Lag = max(v.Lag, lag)
		v.Own = v.Own || k.acks[i].writer == r.Instance
	}
	return v
}
