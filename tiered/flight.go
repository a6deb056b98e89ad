package tiered

import (
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tandemcache/tandem/local"
)

// maxRunning is how many flights of one key may run at once in a process.
//
// One is joined by everybody, unless an invalidation of the key detaches it: what it brings may be old for who asks from
// then on. The next Get then starts a second one at once, so that a reader after a write does not wait for the load that
// began before it. A key that is written faster than it loads would start flights without end; from the third on they
// queue. A queued flight has not read anything yet, so joining it is always right, and there is never more than one.
const maxRunning = 2

// flight is one way of getting one key's value, shared by all who ask for it meanwhile. It is registered before it runs
// and finished exactly once, whatever the loader does.
type flight[V any] struct {
	key string
	// ctx has the values of the call that started the flight, and no cancellation.
	ctx     context.Context //nolint:containedctx // a flight is a call
	load    LoadFunc[V]     // nil: there is none
	ttl     time.Duration   // of GetOptions
	refresh bool            // loads whatever the tiers hold; guarded by the shard's lock until the flight begins to read
	// byCaller says that the caller of join runs the flight, if it can start at once.
	byCaller bool

	// What follows is the flight's goroutine's.
	due     time.Duration // from now: what it stores in L1 is to be refreshed then; zero for never
	aged    *aged         // it refreshes in the background; nil if it does not
	overdue *[]string     // of its group, where what it finds due is noted; nil: it begins the refresh
	outcome outcome       // of a refresh's load
	tags    []string      // of the value
	asOf    string        // of the lease: see remote.Lease

	// expired is a value of L2 that may stand in for a load that fails.
	expired atomic.Pointer[leftover]
	// soft is written before early is closed, and hard before done. They are what stands in for the load.
	soft, hard standIn[V]
	offered    atomic.Bool   // soft, by whoever was first
	early      chan struct{} // nil without SoftTimeout
	began      time.Time     // when its caller came; zero without SoftTimeout

	// ticket is taken when the flight starts, before it reads anything. Written under the shard's lock, before the flight's
	// goroutine exists or by it.
	ticket  local.Ticket
	started bool // guarded by the shard's lock
	// waiting says that it has started for a batch, and that the turn of its part has not come: nothing is read yet. Guarded by the
	// shard's lock.
	waiting bool
	// heard is how many changes Redis had told of before the flight read anything, or before Redis took its fill: see foreign.
	heard uint64

	joiners joiners // who waits for it, for an Observer

	// val and err are written by the flight's goroutine before done is closed, and read only after it.
	val  V
	err  error
	done chan struct{}
}

// flights are those of one cache, by key.
type flights[V any] struct {
	seed   maphash.Seed
	shards [flightShards]flightShard[V]
	// take returns a ticket; live is the rule of a hit without the slot's version: tags, session and age.
	take func(key string) local.Ticket
	live func(local.Ticket) bool
	// heard counts what Redis tells of a key: see foreign. It may be nil.
	heard func(key string) uint64
	// run is called on a goroutine of its own for each flight that starts, and must call finish.
	run func(*flight[V])
	// lanes is how many there are: mostly none that an eviction would have to look for. A lane is counted before its flight
	// takes a ticket, and detach reads the count after the eviction has counted: a flight that is not seen there has a ticket
	// from after the eviction.
	lanes atomic.Int64
}

const flightShards = 64

type flightShard[V any] struct {
	mu    sync.Mutex // protects lanes and what their flights say is guarded by it; never held over I/O or user code
	lanes map[string]*lane[V]
}

// lane is what is under way for one key.
type lane[V any] struct {
	// newest is the flight that may be joined: running and not detached, waiting, or queued. Nil if there is none.
	newest  *flight[V]
	running int
}

func (f *flights[V]) shard(key string) *flightShard[V] {
	return &f.shards[maphash.String(f.seed, key)%flightShards]
}

// find returns the flight that join would, if it is under way, and begins one that waits for its part's turn. Those who come in a
// herd need no flight of their own for it.
func (f *flights[V]) find(key string, refresh bool) *flight[V] {
	if f.lanes.Load() == 0 {
		return nil
	}
	s := f.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lanes[key]; l != nil {
		return f.joinable(l, refresh, false)
	}
	return nil
}

// begin returns those of a part whose turn has come that nobody else has begun, for the caller to run.
func (f *flights[V]) begin(ns []*flight[V]) []*flight[V] {
	mine := make([]*flight[V], 0, len(ns))
	for _, n := range ns {
		if f.beginOne(n) {
			mine = append(mine, n)
		}
	}
	return mine
}

func (f *flights[V]) beginOne(n *flight[V]) bool {
	s := f.shard(n.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !n.waiting {
		return false
	}
	f.beginLocked(n)
	return true
}

// beginLocked is called when n is about to read: that is what its ticket is for.
func (f *flights[V]) beginLocked(n *flight[V]) {
	n.waiting = false
	n.ticket = f.take(n.key)
	if f.heard != nil {
		n.heard = f.heard(n.key)
	}
}

// joinable returns the lane's flight if who asks now may have its answer. The shard is locked.
//
// A running flight is joined only under the rule that an L1 entry obeys: not detached by an eviction of its key, no tag
// evicted since (whichever its value has), of the current session, and no older than MaxStaleness unless the session's proof
// is younger. Without that last condition a process that no longer hears invalidations would hand a slow load's value to
// readers of any later time. A refresh joins only what has not read anything, and makes a refresh of it: its caller wants what
// the source says from now on, and a Get would be content with what Redis has.
//
// Who asks for one key does not wait for the turn of a batch's part, which is after the loads of other keys: the flight begins
// by itself. A batch waits, or has it among its own and begins it there, whichever turn comes first.
func (f *flights[V]) joinable(l *lane[V], refresh, batch bool) *flight[V] {
	old := l.newest
	if old == nil || (old.started && !old.waiting && (refresh || !f.live(old.ticket))) {
		return nil
	}
	if refresh && old.load != nil {
		old.refresh = true
	}
	if old.waiting && !batch {
		f.beginLocked(old)
		go f.run(old)
	}
	return old
}

// join returns the flight that answers n's question, and whether its caller leads it: n itself, or one that waits for the turn
// of another batch's part, if n is of a batch. If it is not n, that is dropped.
func (f *flights[V]) join(n *flight[V]) (*flight[V], bool) {
	s := f.shard(n.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lanes[n.key]
	if l == nil {
		if s.lanes == nil {
			s.lanes = make(map[string]*lane[V])
		}
		l = &lane[V]{}
		f.lanes.Add(1)
		s.lanes[n.key] = l
	}
	if old := f.joinable(l, n.refresh, n.waiting); old != nil {
		return old, old.waiting
	}
	l.newest = n
	if l.running < maxRunning {
		f.startLocked(l, n)
	} else {
		n.byCaller, n.waiting = false, false // nobody but the flight before it knows when it starts
	}
	return n, true
}

func (f *flights[V]) startLocked(l *lane[V], n *flight[V]) {
	l.running++
	n.started = true
	if n.waiting {
		return
	}
	f.beginLocked(n)
	if !n.byCaller {
		go f.run(n)
	}
}

// detach makes key's running flight one that nobody joins any more. Those who wait for it still get its value: they asked
// before the eviction.
//
// It is called after the eviction.
func (f *flights[V]) detach(key string) {
	if f.lanes.Load() == 0 {
		return
	}
	s := f.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lanes[key]; l != nil && l.newest != nil && l.newest.started && !l.newest.waiting {
		l.newest = nil
	}
}

// believe makes n as old as the heartbeat on whose word it reads L2, which may have been sent before it started: an epoch
// that ended in between would else be served, in L1 and to who joins, for longer than MaxStaleness. While that word is in
// doubt, nobody joins: a younger proof would vouch for what it does not cover.
func (f *flights[V]) believe(n *flight[V], o opening) {
	if !o.open {
		return
	}
	s := f.shard(n.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	n.ticket = n.ticket.NotAfter(o.sent)
	if l := s.lanes[n.key]; !o.keep && l.newest == n {
		l.newest = nil
	}
}

// stamp replaces n's ticket by another that is no better.
func (f *flights[V]) stamp(n *flight[V], t local.Ticket) {
	s := f.shard(n.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	n.ticket = t
}

// finish hands out the flight's result, and starts the one that was queued behind it.
//
// It leaves the lane first: a Get that comes after another has had the result must not find it there, or a loader's error
// would be answered twice.
func (f *flights[V]) finish(n *flight[V]) {
	f.remove(n)
	close(n.done)
}

func (f *flights[V]) remove(n *flight[V]) {
	s := f.shard(n.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lanes[n.key]
	l.running--
	if l.newest == n {
		l.newest = nil
	}
	if l.newest != nil && !l.newest.started {
		f.startLocked(l, l.newest)
	}
	if l.running == 0 && l.newest == nil {
		delete(s.lanes, n.key)
		f.lanes.Add(-1)
	}
}

// underway returns how many keys have a flight.
func (f *flights[V]) underway() int { return int(f.lanes.Load()) }
