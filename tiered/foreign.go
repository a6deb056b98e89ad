package tiered

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tandemcache/tandem/local"
	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/remote"
)

const (
	// maxDoubted bounds the keys that wait for Redis to be asked about them. With more, L1 is dropped instead.
	maxDoubted = 4096
	askAtOnce  = 256
	// earSlots is how many counts of messages there are, which keys share by their hash. Sharing one costs a read of L2.
	earSlots = 1 << 12
)

// foreign takes from L1 what others than tandem have changed in Redis.
//
// Redis tells of every change, of our own as well: of each lease, of each fill. A message names a key and nothing else, so it
// says no more than that what was read before it may be old. What L1 holds is therefore compared with what Redis has now,
// after the message, and goes if that is not the same value: that the key is there is not enough, for it may have been removed and
// loaded anew since.
//
// What is on its way into L1 when a message comes is not in L1 to be compared. So messages are counted, a flight notes
// the count before it reads, and what it has put is in doubt if the count is another one then:
//
//  1. the message is counted first, and what L1 holds is looked up second;
//  2. an entry is put first, and the count is compared second.
//
// Whichever comes first, one of the two sees the other. A fill that Redis has taken starts a new count for its flight: what
// came before it was of what it has replaced, or has taken the lease away, and then Redis refuses it.
//
// Tickets are left as they are. Were they void after a message, the message of its own lease would keep every load out of L1, and
// what stands in for a load that fails would be void with the beginning of that load. Flights are not detached either: they
// would be by their own lease, and a Get after that would begin a second load. So who joins a load gets what it has read,
// also if a stranger has changed the key since.
type foreign[V any] struct {
	c       *Cache[V]
	tracker *pubsub.Tracker
	leave   func() // closes the tracker's client
	on      atomic.Bool
	seed    maphash.Seed
	heard   [earSlots]atomic.Uint64

	mu      sync.Mutex // protects what follows; never held over I/O or user code
	doubted map[string]struct{}
	// stuck says that the user's codec has kept a comparison up for MaxStaleness. Until it returns, nothing is asked about.
	stuck bool
	wake  chan struct{} // has room for one: there are doubted keys
	done  chan struct{} // closed when ask has ended
}

// follow starts tracking. The prefix is that of the cache's entries.
func (c *Cache[V]) follow(prefix string) error {
	client, leave, err := c.bus.trackingClient(prefix)
	if err != nil {
		return err
	}
	f := &foreign[V]{
		c: c, leave: leave, seed: maphash.MakeSeed(),
		doubted: make(map[string]struct{}), wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	c.foreign, c.flights.heard = f, f.count
	go f.ask()
	f.tracker = pubsub.Track(client, pubsub.TrackerOptions{
		Prefix: prefix, Interval: c.opts.MaxStaleness / 3, Changed: f.changed, Begin: f.begin, End: f.end, Logger: c.opts.Logger,
	})
	return nil
}

// close is called once the cache's context has ended. It waits for the user's codec no longer than CloseTimeout. It may be
// called on nil.
func (f *foreign[V]) close() {
	if f == nil {
		return
	}
	f.tracker.Stop() // first, or it would connect again
	f.leave()
	f.tracker.Close()
	await(f.done, f.c.opts.CloseTimeout)
}

// begin drops what may have changed unheard.
func (f *foreign[V]) begin() {
	f.flush()
	f.on.Store(true)
	f.c.logger.Log(slog.LevelInfo, "tracking", "tandem: tracking keys, L1 starts empty", "cache", f.c.name)
}

func (f *foreign[V]) end() { f.on.Store(false) }

// works reports whether changes are heard now. It may be called on nil.
func (f *foreign[V]) works() bool { return f != nil && f.on.Load() }

// count is how many messages there have been of keys that share key's count. It may be called on nil.
func (f *foreign[V]) count(key string) uint64 {
	if f == nil {
		return 0
	}
	return f.ear(key).Load()
}

func (f *foreign[V]) ear(key string) *atomic.Uint64 {
	return &f.heard[maphash.String(f.seed, key)%earSlots]
}

// changed takes what the tracker has heard.
func (f *foreign[V]) changed(keys []string) {
	for _, key := range keys {
		if remote.CheckKey(key) != nil {
			continue
		}
		f.ear(key).Add(1)
		if f.held(key) != nil {
			f.doubt(key)
		}
	}
}

// stored is called after what n has brought was put into L1. It may be called on nil.
func (f *foreign[V]) stored(n *flight[V]) {
	if f != nil && f.count(n.key) != n.heard {
		f.doubt(n.key)
	}
}

// held returns what L1 may serve of key, now, when it is trusted again, or in the stead of a load that fails.
func (f *foreign[V]) held(key string) *local.Entry[V] {
	return f.c.local.Held(key, max(f.c.opts.StaleIfError, 0))
}

// doubt has Redis asked about key, once for all messages until then. Where too much has to be asked about, L1 goes unasked.
func (f *foreign[V]) doubt(key string) {
	f.mu.Lock()
	stuck, full := f.stuck, len(f.doubted) >= maxDoubted
	if !stuck && !full {
		f.doubted[key] = struct{}{}
	}
	f.mu.Unlock()
	switch {
	case stuck:
		f.drop(key)
		return
	case full:
		f.flush()
		return
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// flush drops L1, and with it all doubts.
func (f *foreign[V]) flush() {
	f.mu.Lock()
	clear(f.doubted)
	f.mu.Unlock()
	f.c.flushLocal()
}

func (f *foreign[V]) drop(key string) {
	f.c.local.Evict(key)
	f.c.count.tracked.Add(1)
}

// ask asks Redis about the keys that wait, as many at once as there are.
func (f *foreign[V]) ask() {
	over := false
	defer func() {
		if over {
			close(f.done)
			return
		}
		f.flush() // a codec has ended the goroutine
		go f.ask()
	}()
	for {
		select {
		case <-f.c.ctx.Done():
			over = true
			return
		case <-f.wake:
		}
		for keys := f.take(); len(keys) > 0 && f.c.ctx.Err() == nil; keys = f.take() {
			f.judgeInTime(keys)
		}
	}
}

func (f *foreign[V]) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var keys []string
	for key := range f.doubted {
		if len(keys) == askAtOnce {
			break
		}
		keys = append(keys, key)
		delete(f.doubted, key)
	}
	return keys
}

// judgeInTime drops L1 if it takes longer than MaxStaleness.
func (f *foreign[V]) judgeInTime(keys []string) {
	over := false // guarded by mu
	late := time.AfterFunc(f.c.opts.MaxStaleness, func() {
		f.mu.Lock()
		f.stuck = !over
		f.mu.Unlock()
		f.flush()
	})
	defer func() {
		late.Stop()
		f.mu.Lock()
		defer f.mu.Unlock()
		over, f.stuck = true, false
	}()
	f.judge(keys)
}

// judge drops those entries that Redis does not have, and all where Redis does not say or is not believed. An entry is taken
// from L1 before Redis is read: one that replaces it meanwhile was read later, or is in doubt by itself.
func (f *foreign[V]) judge(keys []string) {
	c := f.c
	asked, entries := keys[:0], make([]*local.Entry[V], 0, len(keys))
	for _, key := range keys {
		if e := f.held(key); e != nil {
			asked, entries = append(asked, key), append(entries, e)
		}
	}
	if len(asked) == 0 {
		return
	}
	o := c.look(asked[0]) // there is one part
	believed := o.open && o.keep && !o.node.breaker.isOpen()
	answers := make([]remote.Answer[[]byte], len(asked))
	if believed {
		ctx, cancel := context.WithTimeout(c.ctx, c.opts.RedisTimeout)
		defer cancel()
		answers = o.node.reads.GetMany(ctx, asked)
		believed = o.same()
	}
	for i, key := range asked {
		if !believed || answers[i].Err != nil || !f.confirms(key, entries[i], answers[i].Value, o) {
			f.drop(key)
		}
	}
}

// confirms reports whether raw, which Redis has of key, says what e does. That either is about to expire, or is past its refresh, does
// not matter: e has times of its own.
func (f *foreign[V]) confirms(key string, e *local.Entry[V], raw []byte, o opening) bool {
	c := f.c
	if len(raw) == 0 || len(raw) > c.opts.MaxEntryBytes || c.isPending(key) {
		return false
	}
	env, err := remote.Decode(raw, key)
	if err != nil || env.Schema != c.schema || env.Epoch != o.epoch {
		return false
	}
	if ok, err := c.checkTags(key, env, o.cleared); !ok || err != nil {
		return false
	}
	same, err := c.sameValue(key, e, env)
	return err == nil && same
}
