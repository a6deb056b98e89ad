package tiered

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxPendingKeys and maxPendingBytes bound what is remembered. Past them the queue turns into "everything of this cache",
	// which is one key in Redis.
	maxPendingKeys  = 10_000
	maxPendingBytes = 8 << 20
)

// pending are the invalidations of this instance that Redis has not confirmed. While a key is pending, this instance does
// not believe what L2 says about it: there may be a value there that the invalidation was to delete.
type pending struct {
	// any is how many keys there are, or more than none if all is set: what most reads look at and no further.
	any atomic.Int64

	mu    sync.Mutex // protects what follows
	keys  map[string]due
	bytes int
	all   *due // everything of the cache is pending
	// seq numbers additions, so that a key which was added again during its own retry stays.
	seq  uint64
	wake chan struct{} // has room for one: there is something to do
}

type due struct {
	at  time.Time // not to be tried before
	seq uint64
}

func newPending() *pending {
	return &pending{keys: make(map[string]due), wake: make(chan struct{}, 1)}
}

// has reports whether key's invalidation is pending.
func (p *pending) has(key string) bool {
	if p.any.Load() == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.keys[key]
	return ok || p.all != nil
}

// add makes keys pending, to be tried not before at. What is pending already is tried at the later of the two times.
func (p *pending) add(keys []string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq++
	for _, key := range keys {
		old, ok := p.keys[key]
		if !ok {
			p.bytes += len(key)
		}
		if old.at.After(at) {
			p.keys[key] = due{at: old.at, seq: p.seq}
		} else {
			p.keys[key] = due{at: at, seq: p.seq}
		}
	}
	if len(p.keys) > maxPendingKeys || p.bytes > maxPendingBytes {
		p.addAllLocked(at)
	}
	p.changedLocked()
}

// addAll makes everything of the cache pending.
func (p *pending) addAll(at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq++
	p.addAllLocked(at)
	p.changedLocked()
}

func (p *pending) addAllLocked(at time.Time) {
	for _, d := range p.keys {
		if d.at.After(at) {
			at = d.at
		}
	}
	if p.all != nil && p.all.at.After(at) {
		at = p.all.at
	}
	p.all = &due{at: at, seq: p.seq}
	clear(p.keys)
	p.bytes = 0
}

func (p *pending) changedLocked() {
	n := int64(len(p.keys))
	if p.all != nil {
		n++
	}
	p.any.Store(n)
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// batch is what the next try is about.
type batch struct {
	all  bool
	keys []string
	seq  uint64
}

// next returns what may be tried now, or how long to wait for something, or neither if nothing is pending.
func (p *pending) next(now time.Time, most int) (b batch, wait time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b.seq = p.seq
	if p.all != nil {
		if d := p.all.at.Sub(now); d > 0 {
			return batch{}, d, true
		}
		b.all = true
		return b, 0, true
	}
	for key, d := range p.keys {
		if left := d.at.Sub(now); left > 0 {
			if wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		if b.keys = append(b.keys, key); len(b.keys) == most {
			break
		}
	}
	if len(b.keys) > 0 {
		wait = 0
	}
	return b, wait, len(p.keys) > 0
}

// confirm removes what Redis has taken, except what was added again since the batch was made.
func (p *pending) confirm(b batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if b.all && p.all != nil && p.all.seq <= b.seq {
		p.all = nil
	}
	for _, key := range b.keys {
		if d, ok := p.keys[key]; ok && d.seq <= b.seq {
			delete(p.keys, key)
			p.bytes -= len(key)
		}
	}
	p.changedLocked()
}

// size returns how many keys are pending, and whether everything is.
func (p *pending) size() (keys int, all bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.keys), p.all != nil
}
