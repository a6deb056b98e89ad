package local

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/ristretto/v2"

	"github.com/tandemcache/tandem/internal/mono"
)

// MinBytes is the smallest budget a store can keep to: below it the fixed parts (the admission counters, the write
// buffer, the slots) would be all of it.
const MinBytes = 1 << 20

// ErrInvalidOptions is returned by New, wrapped with the field, its value and its bound.
var ErrInvalidOptions = errors.New("local: invalid option")

// Options configures a Store.
type Options[V any] struct {
	// Bytes is the budget in bytes of heap for entries, keys and Ristretto's own structures, at least MinBytes.
	Bytes int64
	// MaxStaleness is how long an entry may be served past the later of its ticket and its session's proof. Required.
	MaxStaleness time.Duration
	// Partitions is how many parts the keys are in, each with a session of its own, 1 to 1024. Zero means 1. They are
	// numbered from 0.
	Partitions int
	// Cost returns the bytes of heap that a value keeps alive beside its own fields. Nil estimates it by reflection. It
	// is called once for each Put, on the caller's goroutine; a negative result counts as zero.
	Cost func(V) int64
}

// Store is the first tier. All methods may be called concurrently, also beside and after Close.
type Store[V any] struct {
	slots        slots[V]
	tags         tags
	entries      int64 // that there is about room for
	seed         maphash.Seed
	maxStaleness int64 // nanoseconds
	partitions   []partition
	now          func() int64 // mono.Now; a test stops a reader in it, between two readings whose order matters
	uses         uses

	limit int64 // bytes
	cost  coster[V]

	// changes has a key's puts, evictions and searches one after the other, by the key's hash; see change.
	changes [1 << 8]sync.Mutex

	door  door // uses of Ristretto's Get in progress
	items *ristretto.Cache[uint64, *Entry[V]]

	hits, misses counters

	// writes is read-locked around every call that sends to Ristretto's buffer, which Close closes: a send to it after
	// that panics.
	//
	// It is taken before one of changes, never after:
	//
	//  1. a Put holds writes;
	//  2. Close asks for writes, and from here on nobody else gets it;
	//  3. an Evict that took its change first would wait for writes, with the change that the Put needs to go on.
	writes sync.RWMutex
	closed bool // guarded by writes
}

// Entry is what a lookup returns. What is exported of it is immutable and shared by all who look it up.
//
// What decides about a hit comes first, in 64 bytes.
type Entry[V any] struct {
	hash    uint64
	key     string
	ticket  stamp
	expires int64
	told    atomic.Uint32 // see uses
	state   atomic.Uint32 // pending, live or gone; see put and drop

	// Absent says that the key is known not to exist.
	Absent bool
	// due is for how long before its expiry the entry is due for a refresh, in ms; zero for never. So it takes the room that
	// Absent leaves.
	due atomic.Uint32
	// Value is the stored value; the zero V if Absent.
	Value V
}

// The states of an entry, which it goes through in this order.
const (
	pending uint32 = iota // Ristretto may hold it; nobody is served it
	live                  // it may be served
	gone                  // it was evicted, or Ristretto does not hold it any more
)

// New returns an empty store with no session: until [Store.Begin], entries of a partition live for MaxStaleness.
func New[V any](opts Options[V]) (*Store[V], error) {
	if opts.Bytes < MinBytes {
		return nil, fmt.Errorf("%w: Bytes is %d, must be at least %d", ErrInvalidOptions, opts.Bytes, MinBytes)
	}
	if opts.MaxStaleness <= 0 {
		return nil, fmt.Errorf("%w: MaxStaleness is %v, must be positive", ErrInvalidOptions, opts.MaxStaleness)
	}
	if opts.Partitions < 0 || opts.Partitions > maxPartitions {
		return nil, fmt.Errorf("%w: Partitions is %d, must be 1 to %d", ErrInvalidOptions, opts.Partitions, maxPartitions)
	}
	plan := planFor(opts.Bytes)
	s := &Store[V]{
		slots:        newSlots[V](plan.entries),
		entries:      plan.entries,
		uses:         uses{length: uint64(plan.counters)},
		seed:         maphash.MakeSeed(),
		maxStaleness: int64(opts.MaxStaleness),
		partitions:   newPartitions(max(opts.Partitions, 1)),
		limit:        opts.Bytes,
		now:          mono.Now,
		cost:         coster[V]{user: opts.Cost},
	}
	items, err := ristretto.NewCache(&ristretto.Config[uint64, *Entry[V]]{
		NumCounters:        plan.counters,
		MaxCost:            opts.Bytes - plan.fixed(s.slots.bytes()) - partitionBytes(len(s.partitions)),
		BufferItems:        64,
		IgnoreInternalCost: true, // ours counts what Ristretto keeps for an item, measured
		OnExit:             s.drop,
	})
	if err != nil {
		return nil, fmt.Errorf("local: %w", err)
	}
	s.items = items
	return s, nil
}

// Get returns the entry of key if it may be served now, else nil. It does not allocate. A hit in the key's slot
// takes no lock; what has to be looked for in Ristretto waits for the key's changes.
func (s *Store[V]) Get(key string) *Entry[V] {
	e, _ := s.lookup(key)
	return e
}

// Lookup is Get, and reports whether the caller is to refresh the entry: its time for that has come, and nobody was told so
// within RefreshPause.
func (s *Store[V]) Lookup(key string) (e *Entry[V], due bool) {
	e, now := s.lookup(key)
	return e, e != nil && e.isDue(now) && e.claim(now)
}

// lookup returns the time that it went by too.
func (s *Store[V]) lookup(key string) (e *Entry[V], now int64) {
	hash := s.hash(key)
	slot := s.slots.of(hash)
	e = slot.entry.Load()
	switch {
	case e == nil || !e.is(hash, key) || e.state.Load() == gone:
		e = s.find(slot, hash, key)
	case s.uses.counts(&e.told):
		s.use(hash)
	}
	if e != nil {
		var ok bool
		if now, ok = s.servable(e); ok {
			s.hits.add()
			return e, now
		}
	}
	s.misses.add()
	return nil, 0
}

// is compares the key too: the hash is all that a slot and Ristretto know of it. Two keys of one hash are misses to each other.
func (e *Entry[V]) is(hash uint64, key string) bool { return e.hash == hash && e.key == key }

// servable is the rule of a hit. The order of the readings matters: see fresh. It is written out here to read the clock once
// for age and expiry, and for the refresh of who asks.
func (s *Store[V]) servable(e *Entry[V]) (now int64, ok bool) {
	proof := e.ticket.session.proof.Load()
	now = s.now()
	return now, now-max(e.ticket.at, proof) <= s.maxStaleness && now < e.expires &&
		e.state.Load() == live && e.ticket.holds()
}

// find asks Ristretto, and shows what it holds in the slot.
func (s *Store[V]) find(slot *slot[V], hash uint64, key string) *Entry[V] {
	pass, n := s.door.enter()
	if pass == nil {
		return nil
	}
	defer pass.leave()
	s.uses.hear(n)
	defer s.change(hash)()
	e, ok := s.items.Get(hash)
	if !ok || !e.is(hash, key) {
		return nil
	}
	s.show(slot, e)
	return e
}

// use tells Ristretto's policy of a hit, which is all that its Get is asked for here.
func (s *Store[V]) use(hash uint64) {
	if pass, n := s.door.enter(); pass != nil {
		s.uses.hear(n)
		s.items.Get(hash)
		pass.leave()
	}
}

// show makes e the slot's entry, unless Ristretto has given it up.
//
// Between Ristretto's answer and the slot it may give e up for another entry of the key, or for want of room. Then e must not
// stay, or a Get after the Put of that other one would find e, and its memory would be held by the slot alone. Ristretto
// calls drop when it gives e up. Either drop's mark comes first, and is seen by the second look here, or the slot is set
// first, and drop finds e there.
func (s *Store[V]) show(slot *slot[V], e *Entry[V]) {
	if e.state.Load() == gone {
		return
	}
	slot.entry.Store(e)
	if e.state.Load() == gone {
		slot.entry.CompareAndSwap(e, nil)
	}
}

// drop is called by Ristretto with each entry that it does not hold any more, or has never held; with nil for none. Where it
// is somebody's call that makes Ristretto give an entry up, drop is called before that call returns.
func (s *Store[V]) drop(e *Entry[V]) {
	if e == nil {
		return
	}
	e.state.Store(gone)
	s.slots.of(e.hash).entry.CompareAndSwap(e, nil)
}

// Put stores a value that was read under ticket t, for ttl at most. It reports whether the value was handed to
// Ristretto, which may still decline it; it is not if t is no longer good, if ttl is not positive, or after Close.
// After Put returned, an accepted entry is visible to Get.
func (s *Store[V]) Put(key string, v V, t Ticket, ttl time.Duration) bool {
	return s.PutAging(key, v, false, t, ttl, 0)
}

// PutAbsent stores the knowledge that key does not exist, as Put does a value.
func (s *Store[V]) PutAbsent(key string, t Ticket, ttl time.Duration) bool {
	var none V
	return s.PutAging(key, none, true, t, ttl, 0)
}

// PutAging is Put, or PutAbsent, of an entry that is due for a refresh after refresh; not positive means never.
func (s *Store[V]) PutAging(key string, v V, absent bool, t Ticket, ttl, refresh time.Duration) bool {
	e := &Entry[V]{Value: v, Absent: absent}
	if refresh > 0 {
		e.due.Store(inMs(ttl - refresh))
	}
	return s.put(key, e, t, ttl)
}

func (s *Store[V]) put(key string, e *Entry[V], t Ticket, ttl time.Duration) bool {
	if ttl <= 0 || !s.storable(key, t) {
		return false
	}
	e.hash, e.key, e.ticket = s.hash(key), key, t.stamp
	now := mono.Now()
	if e.expires = now + int64(ttl); e.expires < now {
		e.expires = math.MaxInt64
	}
	cost := s.cost.of(e)

	s.writes.RLock()
	defer s.writes.RUnlock()
	if s.closed || !s.set(e, cost) {
		return false
	}
	// Ristretto applies the Set of a new key later, on one goroutine. Waiting for it costs about a microsecond beside a
	// load or a trip to Redis. In return a Get right after this one hits, and a burst of new keys is slowed instead of
	// being dropped (of 300,000 Sets in a burst Ristretto drops 82 %).
	s.items.Wait()
	s.enliven(e, t.version)
	return true
}

func (s *Store[V]) set(e *Entry[V], cost int64) bool {
	defer s.change(e.hash)()
	return s.items.Set(e.hash, e, cost)
}

// change locks out other changes of the keys of a hash until the function that it returns is called.
//
// Ristretto takes an entry out first and calls drop second, and whoever does that may be stopped between the two:
//
//  1. a Put replaces entry e in Ristretto, and is stopped before drop is told of e;
//  2. an Evict of the key finds the new entry there, or none, and drops that;
//  3. a Get finds e in the slot, live.
//
// So nobody else changes the key until the Put has told. What Ristretto's own goroutine takes out, for want of room, it may
// hold back in the same way: therefore Evict drops what the slot shows by itself, and a search has found and shown an entry
// before an Evict, or looks for it after. Ristretto's goroutine needs no such lock, so waiting for it under one is safe.
func (s *Store[V]) change(hash uint64) (over func()) {
	mu := &s.changes[hash%uint64(len(s.changes))]
	mu.Lock()
	return mu.Unlock
}

// enliven has an entry served from now on that Ristretto holds, unless its key was evicted since its ticket was taken.
//
// Evict counts first and looks second; here Ristretto has the entry first, and the count is compared second. So if the count
// has not moved here, an Evict that follows finds the entry and drops it; and if an Evict has looked in vain, before the entry
// was there, its count is seen here. Between the two nobody is served the entry: it is pending.
func (s *Store[V]) enliven(e *Entry[V], version uint64) {
	defer s.change(e.hash)()
	slot := s.slots.of(e.hash)
	if slot.version.Load() != version {
		s.items.Del(e.hash) // whichever it holds now: one that is better is a miss
		s.drop(e)
		return
	}
	if e.state.CompareAndSwap(pending, live) {
		s.show(slot, e)
	}
}

// release drops what is held under hash. It is what makes an eviction one: the version that Evict counts is for those who
// are about to put. The caller holds writes, and the change of hash.
func (s *Store[V]) release(hash uint64) {
	if s.closed {
		return
	}
	// GetTTL asks for presence without counting as a use of the key. Most evictions are of keys that this process does
	// not hold, and Ristretto would queue a deletion for each.
	if _, held := s.items.GetTTL(hash); held {
		s.items.Del(hash)
	}
}

// Usage is what a store did and holds.
type Usage struct {
	Hits   uint64 // lookups that returned an entry
	Misses uint64 // lookups that did not
	Bytes  int64  // estimated heap of what is held now, fixed parts included
	Limit  int64  // Options.Bytes
}

// Usage returns the counts since New and the bytes now.
func (s *Store[V]) Usage() Usage {
	u := Usage{Limit: s.limit, Hits: s.hits.sum(), Misses: s.misses.sum()}
	s.writes.RLock()
	defer s.writes.RUnlock()
	if !s.closed {
		u.Bytes = s.limit - s.items.RemainingCost()
	}
	return u
}

// Close frees the store. Lookups find nothing from then on, and Put stores nothing. It may be called more than once.
func (s *Store[V]) Close() {
	s.door.close()
	s.writes.Lock()
	defer s.writes.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	for i := range s.partitions {
		s.End(i) // of what the slots show, until Ristretto has dropped it
	}
	s.items.Close()
}
