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
// buffer, the stripes) would be all of it.
const MinBytes = 1 << 20

// ErrInvalidOptions is returned by New, wrapped with the field, its value and its bound.
var ErrInvalidOptions = errors.New("local: invalid option")

// Options configures a Store.
type Options[V any] struct {
	// Bytes is the budget in bytes of heap for entries, keys and Ristretto's own structures, at least MinBytes.
	Bytes int64
	// MaxStaleness is how long an entry may be served past the later of its ticket and its session's proof. Required.
	MaxStaleness time.Duration
	// Cost returns the bytes of heap that a value keeps alive beside its own fields. Nil estimates it by reflection. It
	// is called once for each Put, on the caller's goroutine; a negative result counts as zero.
	Cost func(V) int64
}

// Store is the first tier. All methods may be called concurrently, also beside and after Close.
type Store[V any] struct {
	stripes // evictions, by stripe

	seed         maphash.Seed
	maxStaleness int64 // nanoseconds
	limit        int64 // bytes
	cost         coster[V]
	current      atomic.Pointer[session]
	now          func() int64       // mono.Now; a test stops a reader in it, between two readings whose order matters
	misses       [doorSlots]counter // lookups that found nothing servable

	mu sync.Mutex // orders replacements of current

	door  door // lookups in progress
	items *ristretto.Cache[uint64, *Entry[V]]

	// writes is read-locked around every call that sends to Ristretto's buffer, which Close closes: a send to it after
	// that panics.
	writes sync.RWMutex
	closed bool // guarded by writes
}

type counter struct {
	n atomic.Uint64
	_ [cacheLine - 8]byte
}

// Entry is what a lookup returns. It is immutable and shared by all who look it up.
type Entry[V any] struct {
	// Value is the stored value; the zero V if Absent.
	Value V
	// Absent says that the key is known not to exist.
	Absent bool

	key     string
	ticket  Ticket
	expires int64
}

// New returns an empty store with no session: until [Store.Begin], entries live for MaxStaleness.
func New[V any](opts Options[V]) (*Store[V], error) {
	if opts.Bytes < MinBytes {
		return nil, fmt.Errorf("%w: Bytes is %d, must be at least %d", ErrInvalidOptions, opts.Bytes, MinBytes)
	}
	if opts.MaxStaleness <= 0 {
		return nil, fmt.Errorf("%w: MaxStaleness is %v, must be positive", ErrInvalidOptions, opts.MaxStaleness)
	}
	plan := planFor(opts.Bytes)
	s := &Store[V]{
		stripes:      newStripes(plan.entries),
		seed:         maphash.MakeSeed(),
		maxStaleness: int64(opts.MaxStaleness),
		limit:        opts.Bytes,
		now:          mono.Now,
		cost:         coster[V]{user: opts.Cost},
	}
	s.current.Store(newSession(mono.Never))
	items, err := ristretto.NewCache(&ristretto.Config[uint64, *Entry[V]]{
		NumCounters:        plan.counters,
		MaxCost:            opts.Bytes - plan.fixed(s.stripes.bytes()),
		BufferItems:        64,
		IgnoreInternalCost: true, // ours counts what Ristretto keeps for an item, measured
	})
	if err != nil {
		return nil, fmt.Errorf("local: %w", err)
	}
	s.items = items
	return s, nil
}

// Get returns the entry of key if it may be served now, else nil. It does not allocate and takes no lock of its own.
func (s *Store[V]) Get(key string) *Entry[V] {
	slot := s.door.enter()
	if slot == nil {
		return nil
	}
	e := s.lookup(key)
	slot.leave()
	if e == nil {
		s.misses[pick()].n.Add(1)
	}
	return e
}

func (s *Store[V]) lookup(key string) *Entry[V] {
	hash := s.hash(key)
	e, ok := s.items.Get(hash)
	// The key is compared because the hash is all that Ristretto knows of it: two keys of one hash are misses to each other.
	if !ok || e.key != key {
		return nil
	}
	// The order of the readings below matters: see fresh. It is written out here to read the clock once for age and expiry.
	proof := e.ticket.session.proof.Load()
	now := s.now()
	if now-max(e.ticket.at, proof) > s.maxStaleness || now >= e.expires {
		return nil
	}
	if !s.unmoved(hash, e.ticket) {
		return nil
	}
	return e
}

// Put stores a value that was read under ticket t, for ttl at most. It reports whether the value was handed to
// Ristretto, which may still decline it; it is not if t is no longer good, if ttl is not positive, or after Close.
// After Put returned, an accepted entry is visible to Get.
func (s *Store[V]) Put(key string, v V, t Ticket, ttl time.Duration) bool {
	return s.put(key, &Entry[V]{Value: v}, t, ttl)
}

// PutAbsent stores the knowledge that key does not exist, as Put does a value.
func (s *Store[V]) PutAbsent(key string, t Ticket, ttl time.Duration) bool {
	return s.put(key, &Entry[V]{Absent: true}, t, ttl)
}

func (s *Store[V]) put(key string, e *Entry[V], t Ticket, ttl time.Duration) bool {
	if ttl <= 0 || !s.Good(key, t) {
		return false
	}
	e.key, e.ticket = key, t
	now := mono.Now()
	if e.expires = now + int64(ttl); e.expires < now {
		e.expires = math.MaxInt64
	}
	cost := s.cost.of(e)

	s.writes.RLock()
	defer s.writes.RUnlock()
	if s.closed || !s.items.Set(s.hash(key), e, cost) {
		return false
	}
	// Ristretto applies the Set of a new key later, on one goroutine. Waiting for it costs about a microsecond beside a
	// load or a trip to Redis. In return a Get right after this one hits, and a burst of new keys is slowed instead of
	// being dropped (of 300,000 Sets in a burst Ristretto drops 82 %).
	s.items.Wait()
	return true
}

// release gives the memory of a void entry back. That it does is a matter of memory only: nothing void is ever served.
func (s *Store[V]) release(hash uint64) {
	s.writes.RLock()
	defer s.writes.RUnlock()
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
	u := Usage{Limit: s.limit}
	for i := range s.misses {
		u.Misses += s.misses[i].n.Load()
	}
	u.Hits = max(s.door.entered(), u.Misses) - u.Misses
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
	s.items.Close()
}
