package tiered

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/remote"
)

const (
	levelInfo = slog.LevelInfo
	levelWarn = slog.LevelWarn

	// leaseTTL bounds how long a holder that died is waited for; one that lives renews it three times within.
	leaseTTL = 3 * time.Second
	// firstPoll and maxPoll pace the fallback for a word that was lost.
	firstPoll = 50 * time.Millisecond
	maxPoll   = 500 * time.Millisecond
	// maxAttempts bounds how often one flight asks for a lease and is given a value that it cannot use.
	maxAttempts = 4
)

// keeping says where a value that was loaded without a lease may be stored.
type keeping bool

const (
	nowhere keeping = false
	inLocal keeping = true // under the flight's ticket: the rule of a hit holds for it as for any entry
)

// fly is the life of a flight, on its own goroutine.
func (c *Cache[V]) fly(f *flight[V]) { c.flyOn(f, func() (V, error) { return c.fetch(f) }) }

func (c *Cache[V]) flyOn(f *flight[V], fetch func() (V, error)) {
	defer c.flights.finish(f)
	defer func() {
		// User code is contained where it is called; this is for a mistake of ours, which must not leave waiters behind.
		if p := recover(); p != nil {
			f.err = &PanicError{Value: p}
		}
	}()
	defer c.offerSoon(f)()
	f.err = ErrLoaderExited // what it is if a codec ends the goroutine
	f.val, f.err = fetch()
	c.afterLoad(f)
}

// fetch gets the value from L2, or from the source under a lease. Whatever Redis does, it costs the load and RedisTimeout.
//
// The flight's ticket was taken before anything below happens; that order is what C2 to C4 rest on in L1.
func (c *Cache[V]) fetch(f *flight[V]) (V, error) {
	b := c.newBudget()
	o := c.awaitGate(f.ctx, b, c.part(f.key))
	c.flights.believe(f, o)
	switch {
	case c.isPending(f.key):
		// An invalidation of ours has not reached Redis: what is there may be what it should have deleted.
		return c.loadAlone(f, nowhere)
	case !o.open || !o.node.breaker.allow():
		return c.loadAlone(f, inLocal)
	case f.refresh:
		return c.fetchLeased(f, b, o, remote.Unwanted)
	case c.opts.NoLease && f.load != nil:
		return c.fetchLeased(f, b, o, remote.Wanted) // which brings what is there
	}
	raw, err := c.readRemote(f, b, o.node)
	return c.judge(f, b, o, raw, err)
}

// judge goes on after L2 was asked.
func (c *Cache[V]) judge(f *flight[V], b *budget, o opening, raw []byte, err error) (V, error) {
	bad := isBad(err)
	if bad {
		c.bad(f.key, err)
		err = nil
	}
	c.trip(o.node, f.key, "read", err)
	switch {
	case bad:
		return c.fetchLeased(f, b, o, remote.Wanted)
	case err != nil, !o.same():
		return c.loadAlone(f, inLocal)
	case raw == nil:
		c.count.remoteMisses.Add(1)
		return c.fetchLeased(f, b, o, remote.Wanted)
	}
	e, use, err := c.open(f.key, raw, o.epoch, o.now(), o.cleared)
	if err != nil {
		c.bad(f.key, err)
	}
	switch use {
	case usable:
		return c.take(f, e, o)
	case otherEpoch:
		// Either the entry is invalidated, or our epoch is: the lease script knows.
		return c.fetchLeased(f, b, o, remote.Wanted)
	case expired:
		c.keepExpired(f, e, o)
	case unusable:
	}
	return c.fetchLeased(f, b, o, remote.Unusable(raw))
}

// awaitGate waits while the first heartbeat of a part, or the first after an InvalidateAll, is on its way.
func (c *Cache[V]) awaitGate(ctx context.Context, b *budget, p *part) opening {
	o := p.look()
	for o.wait != nil {
		err := b.do(ctx, func(ctx context.Context) error {
			select {
			case <-o.wait:
				return nil
			case <-c.ctx.Done():
				return ErrClosed
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		if err != nil {
			return opening{err: err}
		}
		o = p.look()
	}
	return o
}

// readRemote asks L2. What is there and no entry is an answer of Redis', and the budget is not over for it.
func (c *Cache[V]) readRemote(f *flight[V], b *budget, n *node) (raw []byte, err error) {
	var bad error
	err = b.do(f.ctx, func(ctx context.Context) error {
		var err error
		raw, err = n.reads.Get(ctx, f.key)
		if isBad(err) {
			bad = err
			return nil
		}
		return err
	})
	if bad != nil {
		return nil, bad
	}
	return raw, err
}

// isBad reports whether a read found something that is no entry: an answer, not a failure of Redis.
func isBad(err error) bool {
	return errors.Is(err, remote.ErrWrongType) || errors.Is(err, remote.ErrTooLarge)
}

// take puts what L2 holds into L1 and returns it.
func (c *Cache[V]) take(f *flight[V], e decoded[V], o opening) (V, error) {
	c.count.remoteHits.Add(1)
	c.label(f, e.tags)
	c.age(f, e.age)
	if o.keep {
		c.putLocal(f, e.val, e.absent, e.life)
	}
	if e.absent {
		return e.val, ErrNotFound
	}
	return e.val, nil
}

// fetchLeased loads the value under a lease, or gets it from whoever holds the lease.
func (c *Cache[V]) fetchLeased(f *flight[V], b *budget, o opening, seen remote.Seen) (V, error) {
	if f.load == nil {
		// Nobody to ask: no lease, which would keep those waiting who can load, and no "not found" in their way.
		var zero V
		return zero, ErrNotFound
	}
	token := remote.NewToken()
	// Registered before the lease is asked for, so that no word can come in between.
	word, forget := c.waiters.add(f.key)
	defer forget()
	wait := newLeaseWait(c.opts.LeaseWait)
	for attempt := 1; ; {
		left := b.left
		l, err := c.acquire(f, b, o.node, token, seen)
		if err != nil || !o.same() {
			c.releaseLater(o.node, f.key, token) // it may have been acquired all the same
			return c.loadAlone(f, inLocal)
		}
		if l.Epoch != o.epoch {
			f.expired.Store(nil) // an epoch has ended, and it with it
		}
		switch l.Outcome {
		case remote.Acquired:
			if c.opts.NoLease {
				c.count.remoteMisses.Add(1) // of a read that was not made by itself
			}
			return c.loadLeased(f, b, o.node, l)
		case remote.Found:
			e, use, err := c.open(f.key, l.Value, l.Epoch, l.Now, o.cleared)
			if err != nil {
				c.bad(f.key, err)
			}
			switch use {
			case usable:
				return c.take(f, e, o)
			case expired:
				if l.Epoch == o.epoch {
					c.keepExpired(f, e, o)
				}
			case otherEpoch, unusable:
			}
			seen = remote.Unusable(l.Value)
			if attempt++; attempt > maxAttempts {
				return c.loadAlone(f, nowhere)
			}
		case remote.Held:
			c.count.leaseWaits.Add(1)
			b.left = left // LeaseWait is what bounds asking again
			if !wait.next(c.ctx, word) {
				return c.loadAlone(f, nowhere)
			}
		}
	}
}

func (c *Cache[V]) acquire(f *flight[V], b *budget, n *node, token remote.Token, seen remote.Seen) (l remote.Lease, err error) {
	err = b.do(f.ctx, func(ctx context.Context) error {
		l, err = n.reads.Acquire(ctx, f.key, token, seen, leaseTTL, c.inbox(f.key))
		return err
	})
	c.trip(n, f.key, "lease", err)
	return l, err
}

// leaseWait is a flight's patience with other holders of the lease.
type leaseWait struct {
	until    time.Time
	poll     time.Duration
	failures int
}

func newLeaseWait(d time.Duration) *leaseWait {
	return &leaseWait{until: time.Now().Add(max(d, 0)), poll: firstPoll}
}

// next waits for a word about the lease, or for the time to ask again, and reports whether to ask. It does not after
// LeaseWait, and not when somebody else holds the lease again after a load that failed: every waiter in the fleet would
// wait for every other's failure in turn.
func (w *leaseWait) next(ctx context.Context, word <-chan news) bool {
	left := time.Until(w.until)
	if left <= 0 || w.failures > 0 {
		return false
	}
	timer := time.NewTimer(min(left, w.poll/2+rand.N(w.poll)))
	defer timer.Stop()
	w.poll = min(2*w.poll, maxPoll)
	select {
	case n := <-word:
		if n == gaveUp {
			w.failures++
		}
		return true
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// loadLeased loads, stores the value in Redis if no invalidation has taken the lease away meanwhile, and in L1.
func (c *Cache[V]) loadLeased(f *flight[V], b *budget, n *node, l remote.Lease) (V, error) {
	began, token := time.Now(), l.Token
	f.asOf = l.AsOf
	lost, letGo := c.keepLease(n, f.key, token)
	defer letGo()
	v, err := c.callLoader(f)
	took := time.Since(began)
	absent := errors.Is(err, ErrNotFound)
	if err != nil && !absent {
		c.release(f, b, n, token)
		return v, err
	}
	if absent {
		c.count.notFound.Add(1)
	}
	ttl, payload, ok := c.prepare(f, v, absent)
	if !ok {
		c.release(f, b, n, token)
		if absent || f.refresh {
			c.replace(f)
		}
		return v, err
	}
	if lost.Load() {
		c.keptOut(f)
		return v, err
	}
	env := remote.Envelope{
		Schema: c.schema, Absent: absent, Epoch: l.Epoch, Payload: payload,
		Created: l.Now, Expires: l.Now + (time.Since(began) + ttl).Milliseconds(), Load: took,
	}
	c.tellTags(&env, f.tags)
	keep := ttl
	if !absent {
		keep = c.lingering(ttl)
	}
	if c.fill(f, b, n, token, env, keep) {
		c.ageLoaded(f, ages{age: time.Since(began), ttl: ttl, load: took})
		c.putLocal(f, v, absent, ttl)
	}
	return v, err
}

// prepare returns how long a loaded value is to be stored and its encoded form; not ok means that it is not to be stored.
// A value that cannot be stored is still the answer.
func (c *Cache[V]) prepare(f *flight[V], v V, absent bool) (ttl time.Duration, payload []byte, ok bool) {
	if absent {
		return c.jitter(c.opts.NotFoundTTL), nil, c.opts.NotFoundTTL > 0
	}
	ttl, err := c.ttlFor(f.key, v, f.ttl)
	var tags []string
	if err == nil && ttl > 0 {
		tags, err = c.tagsOf(f.key, v)
	}
	if err == nil && ttl > 0 {
		payload, err = c.encode(f.key, v, tags)
	}
	if err != nil {
		c.unstored(err)
		return 0, nil, false
	}
	c.label(f, tags)
	return c.jitter(ttl), payload, ttl > 0
}

func (c *Cache[V]) unstored(err error) {
	c.count.unstored.Add(1)
	c.logger.Log(levelWarn, "unstored", "tandem: a loaded value cannot be stored", "cache", c.name, "error", err)
}

// fill stores in Redis, and reports whether L1 may have the value too: not if an invalidation was first, but also where
// Redis failed, because there the ticket alone decides.
func (c *Cache[V]) fill(f *flight[V], b *budget, n *node, token remote.Token, env remote.Envelope, ttl time.Duration) bool {
	bytes, err := env.Encode(f.key)
	stored := false
	heard := c.foreign.count(f.key)
	if err == nil {
		wake := c.wake(f.key, pubsub.Filled)
		err = b.do(f.ctx, func(ctx context.Context) error {
			stored, err = n.reads.FillWith(ctx, remote.Filling{
				Key: f.key, Token: token, Envelope: bytes, TTL: ttl, Epoch: env.Epoch, Wake: wake, AsOf: f.asOf,
			})
			return err
		})
	}
	switch c.trip(n, f.key, "fill", err); {
	case err != nil:
		c.releaseLater(n, f.key, token)
		return true
	case !stored:
		c.keptOut(f)
		return false
	}
	c.count.fills.Add(1)
	f.heard = heard // what was heard before is of what this has replaced: see foreign
	return true
}

// keptOut counts what neither tier takes, because the lease is not its own any more. A refresh has told its caller of a value
// that is newer than L1's, though, and so is whoever has taken the lease over.
func (c *Cache[V]) keptOut(f *flight[V]) {
	c.count.refused.Add(1)
	if f.refresh {
		c.evict(f.key)
	}
}

// keepLease renews a lease while its load takes long, until letGo is called, and notes when it is lost. It does so on a goroutine
// of its own: the loader's result must not wait for a Redis that does not answer.
func (c *Cache[V]) keepLease(n *node, key string, token remote.Token) (lost *atomic.Bool, letGo func()) {
	lost = new(atomic.Bool)
	done := make(chan struct{})
	renew := func() {
		ticker := time.NewTicker(leaseTTL / 3)
		defer ticker.Stop()
		for c.renew(n, key, token) {
			select {
			case <-ticker.C:
			case <-done:
				return
			case <-c.ctx.Done():
				return
			}
		}
		lost.Store(true)
	}
	timer := time.AfterFunc(leaseTTL/3, func() { c.spawn(renew) })
	return lost, func() {
		timer.Stop()
		close(done)
	}
}

func (c *Cache[V]) renew(n *node, key string, token remote.Token) bool {
	ctx, cancel := context.WithTimeout(c.ctx, c.opts.RedisTimeout)
	defer cancel()
	mine, err := n.reads.Renew(ctx, key, token, leaseTTL)
	return mine || err != nil // an error says nothing about the lease
}

func (c *Cache[V]) release(f *flight[V], b *budget, n *node, token remote.Token) {
	if c.opts.NoLease {
		return // others may load under it
	}
	err := b.do(f.ctx, func(ctx context.Context) error {
		return n.reads.Release(ctx, f.key, token, c.wake(f.key, pubsub.Failed))
	})
	if err != nil {
		c.releaseLater(n, f.key, token)
	}
}

// wake is the message for those who wait for the lease of key.
func (c *Cache[V]) wake(key string, outcome string) []byte {
	return pubsub.Message{Op: pubsub.Wake, Channel: c.part(key).topic.Channel, Keys: []string{key}, Outcome: outcome}.Encode()
}

// inbox is the private channel for those messages, in the slot of key.
func (c *Cache[V]) inbox(key string) string { return c.bus.hub.Inbox(c.part(key).number) }

// releaseLater gives up a lease that Redis may or may not have granted, so that nobody waits for it until its TTL. It is a
// courtesy: a few run at a time, and the rest is left to the TTL.
func (c *Cache[V]) releaseLater(n *node, key string, token remote.Token) {
	if c.opts.NoLease {
		return
	}
	select {
	case c.courtesies <- struct{}{}:
	default:
		return
	}
	if !c.spawn(func() {
		defer func() { <-c.courtesies }()
		ctx, cancel := context.WithTimeout(c.ctx, c.opts.RedisTimeout)
		defer cancel()
		_ = n.reads.Release(ctx, key, token, c.wake(key, pubsub.Failed))
	}) {
		<-c.courtesies
	}
}

// loadAlone loads without a lease, so nothing of it goes to Redis.
func (c *Cache[V]) loadAlone(f *flight[V], keep keeping) (V, error) {
	if f.load == nil {
		var zero V
		return zero, ErrNotFound
	}
	if err := c.loadSlot(); err != nil {
		var zero V
		return zero, err
	}
	defer c.freeLoadSlot()
	v, err := c.callLoader(f)
	absent := errors.Is(err, ErrNotFound)
	if absent {
		c.count.notFound.Add(1)
	}
	if absent && (keep == nowhere || c.opts.NotFoundTTL <= 0) {
		c.replace(f)
	}
	if (err != nil && !absent) || keep == nowhere {
		return v, err
	}
	ttl := c.opts.NotFoundTTL
	if !absent {
		if ttl = c.labelAlone(f, v); ttl <= 0 && f.refresh {
			c.replace(f)
		}
	}
	c.putLocal(f, v, absent, ttl)
	return v, err
}

// putLocal stores in L1 under the flight's ticket, which refuses if the key or a tag of v was evicted since the flight began.
func (c *Cache[V]) putLocal(f *flight[V], v V, absent bool, life time.Duration) {
	if c.opts.LocalTTL <= 0 || life <= 0 {
		return
	}
	life = min(life, c.jitter(c.opts.LocalTTL))
	if c.local.PutAging(f.key, v, absent, f.ticket, life, f.due) {
		c.foreign.stored(f)
	}
}

// jitter shortens d by up to Options.Jitter of it.
func (c *Cache[V]) jitter(d time.Duration) time.Duration {
	if c.opts.Jitter <= 0 || d <= 0 {
		return d
	}
	return d - time.Duration(rand.Float64()*c.opts.Jitter*float64(d))
}

func (c *Cache[V]) redisFailed(what string, err error) {
	if errors.Is(err, errBudget) || c.ctx.Err() != nil {
		return
	}
	c.count.redisErrors.Add(1)
	c.logger.Log(levelWarn, "redis "+what, "tandem: Redis failed, going on without it", "cache", c.name, "what", what, "error", err)
}
