package tiered

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/quiet"
	"github.com/tandemcache/tandem/internal/timeout"
	"github.com/tandemcache/tandem/local"
	"github.com/tandemcache/tandem/remote"
)

const (
	versionTTL    = 30 * 24 * time.Hour
	maxCourtesies = 8
)

// Cache is a two-tier cache of values of type V under string keys. All methods may be called concurrently.
type Cache[V any] struct {
	name   string
	opts   Options[V] // with defaults, never changed
	schema remote.Schema
	keys   remote.Keys
	logger *quiet.Logger

	local   *local.Store[V]
	parts   []*part // never changed
	flights flights[V]
	waiters waiters
	foreign *foreign[V] // nil without Options.Tracking
	tries   bool        // see try
	watch   *watcher    // nil without an Observer

	nodesMu sync.Mutex // protects what follows; taken under the hub's lock
	nodes   []*node
	gone    traffic // with nodes that are not there any more

	auditDone chan struct{} // closed when the audit has ended, nil if there is none

	timeouts timeout.Group // of what flights wait for Redis
	count    counters

	refreshes refreshes

	bus    *Bus
	ownBus bool
	leave  []func() // the bus, a part each; see enter

	// ctx ends when the cache is closed.
	ctx      context.Context //nolint:containedctx // the life of the cache's goroutines, ended by Close
	cancel   context.CancelFunc
	closed   atomic.Bool
	closing  sync.Once
	closeErr error
	ready    chan struct{}         // closed once no part is unready
	unready  atomic.Int64          // how many parts lack some of readySigns
	refused  atomic.Pointer[error] // ErrPartitions
	toVoid   []int                 // of keepLayout: partitions that voidAll has not reached

	somePending chan struct{} // room for one: some part has something pending
	slots       chan struct{} // a slot for each load without a lease; nil without MaxLoads
	courtesies  chan struct{} // a slot for each courtesy on its way
	mu          sync.Mutex    // protects leave, stopped, and background's and writes' growing
	stopped     bool
	background  sync.WaitGroup // goroutines that Close waits for
	writes      underway
}

// New returns the cache called name in the Redis of rdb, which is a *redis.Client or, for a Redis Cluster, a
// *redis.ClusterClient. Caches of one name in one Redis are instances of one cache, wherever they run.
//
// It returns at once also if Redis is down: the cache then loads from the source, and connects when Redis comes back. Ready
// waits for it. rdb stays the caller's and is never closed; the cache opens connections of its own with the same options,
// so hooks added to rdb do not see them. A client of redis.NewFailoverClient is followed to whom its Sentinels name; it is
// asked at each new connection, so close it after the cache.
//
// It returns ErrInvalidOption for a bad name or option (all of them, joined), and ErrUnsupportedClient for a client with
// which the contract cannot be kept.
func New[V any](rdb redis.UniversalClient, name string, opts Options[V]) (*Cache[V], error) {
	opts = opts.withDefaults()
	nameErr := remote.CheckName(name)
	if nameErr != nil {
		nameErr = fmt.Errorf("%w: %w", ErrInvalidOption, nameErr)
	}
	if err := errors.Join(nameErr, opts.validate()); err != nil {
		return nil, err
	}
	schema, err := schemaOf[V](opts.Codec)
	if err != nil {
		return nil, fmt.Errorf("%w: Options.Codec: %w", ErrInvalidOption, err)
	}
	bus := opts.Bus
	switch {
	case bus == nil:
		if bus, err = NewBus(rdb, opts.Logger); err != nil {
			return nil, err
		}
	case bus.rdb != rdb:
		return nil, fmt.Errorf("%w: Options.Bus was made from another client than the one given to New", ErrInvalidOption)
	}
	c, err := newCache(name, opts, schema, bus)
	if err != nil {
		if opts.Bus == nil {
			err = errors.Join(err, bus.Close())
		}
		return nil, err
	}
	return c, nil
}

func newCache[V any](name string, opts Options[V], schema remote.Schema, bus *Bus) (*Cache[V], error) {
	keys, err := bus.keys(name)
	if err != nil {
		return nil, err
	}
	if opts.Tracking && bus.only == nil {
		return nil, fmt.Errorf("%w: Options.Tracking is set, and does not work with a Redis Cluster: leave it unset", ErrInvalidOption)
	}
	store, err := local.New(local.Options[V]{
		Bytes: opts.LocalBytes, MaxStaleness: opts.MaxStaleness, Partitions: keys.Partitions(), Cost: containedCost(opts.Cost),
	})
	if err != nil {
		return nil, err
	}
	logger := quiet.New(opts.Logger, time.Minute)
	ctx, cancel := context.WithCancel(context.Background())
	c := &Cache[V]{
		name: name, opts: opts, schema: schema, keys: keys,
		logger: logger,
		watch:  newWatcher(opts.Observer, name, logger),

		local: store,
		bus:   bus, ownBus: opts.Bus == nil,
		ctx: ctx, cancel: cancel,
		ready:       make(chan struct{}),
		somePending: make(chan struct{}, 1),
		courtesies:  make(chan struct{}, maxCourtesies),
	}
	if opts.MaxLoads > 0 {
		c.slots = make(chan struct{}, opts.MaxLoads)
	}
	c.parts = c.newParts()
	c.unready.Store(int64(len(c.parts)))
	c.tries = triesWith(c.opts)
	c.flights.seed = maphash.MakeSeed()
	c.flights.take, c.flights.live, c.flights.run = c.ticket, store.Live, c.fly
	if err := c.begin(); err != nil {
		cancel()
		store.Close()
		c.watch.stop(opts.CloseTimeout)
		return nil, err
	}
	c.spawn(c.repeatLoop)
	if opts.Tracking {
		if err := c.follow(keys.Entries(0)); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	c.startAudit()
	return c, nil
}

// begin joins the bus; in a cluster when it is known that the others have as many partitions.
func (c *Cache[V]) begin() error {
	if c.bus.only != nil {
		return c.enter()
	}
	if c.bus.hasEnded() {
		return fmt.Errorf("%w: Options.Bus", ErrClosed)
	}
	c.spawn(c.keepLayout)
	return nil
}

// enter joins the bus with all parts.
func (c *Cache[V]) enter() error {
	for _, p := range c.parts {
		leave, err := c.bus.hub.Join(p.topic)
		if err != nil {
			return fmt.Errorf("%w: Options.Bus: %w", ErrClosed, err)
		}
		c.mu.Lock()
		c.leave = append(c.leave, leave)
		c.mu.Unlock()
	}
	return nil
}

// exit leaves the bus, and L1 without proof.
func (c *Cache[V]) exit() {
	c.mu.Lock()
	all := c.leave
	c.leave = nil
	c.mu.Unlock()
	for _, leave := range all {
		leave()
	}
	for i := range c.parts {
		c.local.End(i) // on a bus that lives on, nobody else would
	}
}

// ticket is a flight's. What L2 says is believed on the word of a heartbeat, which may be older than the flight: an entry
// read on it counts as old as the heartbeat, or an epoch that ended in between could be served for twice MaxStaleness.
//
// Whoever may serve without proof may do so without Redis knowing of him, and nobody can wait for his acknowledgement. So with
// Options.Acknowledge only the session's proof vouches for what is read.
func (c *Cache[V]) ticket(key string) local.Ticket {
	p := c.part(key)
	t := c.local.Ticket(p.number, key)
	if c.opts.Acknowledge {
		return t.Unaged()
	}
	if o := p.look(); o.open {
		t = t.NotAfter(o.sent)
	}
	return t
}

// Name returns the name that the cache was made with.
func (c *Cache[V]) Name() string { return c.name }

// Ready waits until the cache hears invalidations and Redis takes writes, for the first time; until then L1 keeps what it
// loads for MaxStaleness only. A cache that is not ready may be used.
//
// It returns ctx's error if that ends first, and with it why the last heartbeat failed, if it did: what Health has as RedisError. It
// returns ErrPartitions, and ErrClosed.
func (c *Cache[V]) Ready(ctx context.Context) error {
	select {
	case <-c.ready:
		if c.closed.Load() {
			return ErrClosed
		}
		if err := c.refused.Load(); err != nil {
			return *err
		}
		return nil
	case <-c.ctx.Done():
		return ErrClosed
	case <-ctx.Done():
		if err := c.Health().RedisError; err != nil {
			return fmt.Errorf("%w; Redis: %w", ctx.Err(), err)
		}
		return ctx.Err()
	}
}

// What Ready waits for.
const (
	heard      uint32 = 1 << iota // the first heartbeat came back on the subscription
	taken                         // Redis has taken the first heartbeat
	readySigns = heard | taken
)

// spawn runs f on a goroutine that Close waits for; false means that the cache is closed and f does not run.
func (c *Cache[V]) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return false
	}
	c.background.Go(f)
	return true
}

// write returns why nothing can be changed, if so. If not, Close waits until c.writes.end is called.
func (c *Cache[V]) write() error {
	if err := c.refused.Load(); err != nil {
		c.flushLocal() // the copies of this process are all that it can change
		return *err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return ErrClosed
	}
	c.writes.begin()
	return nil
}

// await waits until done is closed, no longer than patience: by then user code may have ended.
func await(done <-chan struct{}, patience time.Duration) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// Close ends the cache. Calls that wait return ErrClosed, loads are cancelled and what they still bring is dropped. It waits for
// writes that are on their way and tries once more to bring pending invalidations to Redis, for Options.CloseTimeout at most in
// all, and returns ErrPending with their number if some are left: other instances may then serve what they were to drop until
// its TTL. It may be called more than once; every call returns the same.
func (c *Cache[V]) Close() error {
	c.closing.Do(func() {
		c.closed.Store(true)
		c.cancel()
		c.foreign.close()
		c.mu.Lock()
		c.stopped = true
		c.mu.Unlock()

		ctx, cancel := context.WithTimeout(context.Background(), c.opts.CloseTimeout)
		defer cancel()
		c.background.Wait()
		c.closeErr = c.drainAll(ctx)
		c.exit()
		c.local.Close()
		c.resign() // now that nothing is served any more
		if c.ownBus {
			c.closeErr = errors.Join(c.closeErr, c.bus.Close())
		}
		for _, p := range c.parts {
			p.untrusted.stop()
		}
		c.awaitAudit()
		c.watch.stop(c.opts.CloseTimeout)
	})
	return c.closeErr
}
