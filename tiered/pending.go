package tiered

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxPendingKeys and maxPendingBytes bound what is remembered, of all parts. Past them the queue turns into "everything of this cache",
	// which is one key in Redis.
	maxPendingKeys  = 10_000
	maxPendingBytes = 8 << 20
)

// pending are the invalidations of this instance that Redis has not confirmed. While a key is pending, this instance does
// not believe what L2 says about it: there may be a value there that the invalidation was to delete.
type pending struct {
	// any is how many keys and tags there are, or more than none if all is set: what most reads look at and no further.
	any atomic.Int64
	// cleared is how often tags have ceased to be pending. It grows before they do: see checkTags.
	cleared atomic.Uint64

	maxKeys, maxBytes int // past them, everything is pending

	mu    sync.Mutex // protects what follows
	keys  map[string]due
	tags  map[string]due
	bytes int  // of both
	all   *due // everything of the cache is pending
	// seq numbers additions, so that a key which was added again during its own retry stays.
	seq  uint64
	wake chan<- struct{} // has room for one: there is something to do
}

type due struct {
	at  time.Time // not to be tried before
	seq uint64
}

// newPending returns that of one of so many parts, with a channel that they share.
func newPending(parts int, wake chan struct{}) *pending {
	return &pending{
		maxKeys: maxPendingKeys / parts, maxBytes: maxPendingBytes / parts,
		keys: make(map[string]due), tags: make(map[string]due), wake: wake,
	}
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

// hasTag reports whether the invalidation of one of tags is pending.
func (p *pending) hasTag(tags []string) bool {
	if len(tags) == 0 || p.any.Load() == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, tag := range tags {
		if _, ok := p.tags[tag]; ok {
			return true
		}
	}
	return p.all != nil
}

// late reports whether an earlier Set of key may still reach Redis, although its caller was told that it is pending: that is until its
// invalidation may be tried.
func (p *pending) late(key string) bool {
	if p.any.Load() == 0 {
		return false
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys[key].at.After(now) || (p.all != nil && p.all.at.After(now))
}

// anyLate is late for whatever is pending.
func (p *pending) anyLate() bool {
	if p.any.Load() == 0 {
		return false
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.keys {
		if d.at.After(now) {
			return true
		}
	}
	return p.all != nil && p.all.at.After(now)
}

// add makes keys pending, to be tried not before at. What is pending already is tried at the later of the two times.
func (p *pending) add(keys []string, at time.Time) { p.addTo(p.keys, keys, at) }

// addTags is add for tags.
func (p *pending) addTags(tags []string, at time.Time) { p.addTo(p.tags, tags, at) }

func (p *pending) addTo(all map[string]due, names []string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq++
	for _, name := range names {
		old, ok := all[name]
		if !ok {
			p.bytes += len(name)
		}
		if old.at.After(at) {
			all[name] = due{at: old.at, seq: p.seq}
		} else {
			all[name] = due{at: at, seq: p.seq}
		}
	}
	if len(p.keys)+len(p.tags) > p.maxKeys || p.bytes > p.maxBytes {
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
	for _, names := range []map[string]due{p.keys, p.tags} {
		for _, d := range names {
			if d.at.After(at) {
				at = d.at
			}
		}
	}
	if p.all != nil && p.all.at.After(at) {
		at = p.all.at
	}
	p.all = &due{at: at, seq: p.seq}
	clear(p.keys)
	clear(p.tags)
	p.bytes = 0
}

func (p *pending) changedLocked() {
	n := int64(len(p.keys) + len(p.tags))
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
	tags []string
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
	b.keys, wait = ripe(p.keys, now, most, wait)
	b.tags, wait = ripe(p.tags, now, most, wait)
	if len(b.keys)+len(b.tags) > 0 {
		wait = 0
	}
	return b, wait, len(p.keys)+len(p.tags) > 0
}

// ripe returns names that may be tried now, as many as most says or fewer, and how long to wait for another, if that is less than wait.
func ripe(names map[string]due, now time.Time, most int, wait time.Duration) ([]string, time.Duration) {
	var out []string
	for name, d := range names {
		if left := d.at.Sub(now); left > 0 {
			if wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		if out = append(out, name); len(out) == most {
			break
		}
	}
	return out, wait
}

// confirm removes what Redis has taken, except what was added again since the batch was made.
func (p *pending) confirm(b batch) {
	if b.all || len(b.tags) > 0 {
		p.cleared.Add(1)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if b.all && p.all != nil && p.all.seq <= b.seq {
		p.all = nil
	}
	p.confirmLocked(p.keys, b.keys, b.seq)
	p.confirmLocked(p.tags, b.tags, b.seq)
	p.changedLocked()
}

func (p *pending) confirmLocked(all map[string]due, names []string, seq uint64) {
	for _, name := range names {
		if d, ok := all[name]; ok && d.seq <= seq {
			delete(all, name)
			p.bytes -= len(name)
		}
	}
}

// size returns how many keys and tags are pending, and whether everything is.
func (p *pending) size() (keys int, all bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.keys) + len(p.tags), p.all != nil
}
