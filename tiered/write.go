package tiered

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/remote"
)

// Set stores a value in Redis and makes every instance drop its copy of the old one. It is SetWith without options.
//
// Use it for keys with one writer: two writers whose commits and Sets happen in different orders leave the older value
// behind, and no cache can know. Where several write, commit and then call Invalidate.
func (c *Cache[V]) Set(ctx context.Context, key string, v V) error {
	return c.SetWith(ctx, key, v, SetOptions{})
}

// SetWith stores a value in Redis and makes every instance drop its copy of the old one.
//
// Once it has returned nil, no Get that starts later on this instance returns an older value, and none on another instance
// that starts more than Options.MaxStaleness later. It waits for Redis, in one round trip, for ctx and Options.RedisTimeout
// at most. The value enters this process's L1 with the next Get.
//
// It returns ErrPending if Redis did not confirm, or has yet to be rid of an earlier Set that it did not confirm; ErrEncode,
// ErrTooLarge or ErrInvalidTag for a value that cannot be stored (the key is then invalidated); and ErrInvalidKey,
// ErrInvalidOption or ErrClosed if nothing was done.
func (c *Cache[V]) SetWith(ctx context.Context, key string, v V, opts SetOptions) error {
	if err := c.checkCall(key); err != nil {
		return err
	}
	if err := c.checkTTL("SetOptions.TTL", opts.TTL); err != nil {
		return err
	}
	ttl, err := c.ttlFor(key, v, opts.TTL)
	var payload []byte
	var tags []string
	if err == nil && ttl > 0 {
		tags, err = c.tagsOf(key, v)
	}
	if err == nil && ttl > 0 {
		payload, err = c.encode(key, v, tags)
	}
	t, known := c.part(key).gate.known()
	if err != nil || ttl <= 0 || !known {
		// What cannot be stored has still replaced what is stored. Without a heartbeat there is no time of Redis to stamp the
		// entry with; the next Get loads it.
		return errors.Join(err, c.Invalidate(ctx, key))
	}
	return c.set(ctx, key, payload, tags, c.jitter(ttl), t)
}

func (c *Cache[V]) set(ctx context.Context, key string, payload []byte, tags []string, ttl time.Duration, t trust) error {
	if err := c.write(); err != nil {
		return err
	}
	defer c.writes.end()
	c.evict(key)
	ctx = c.watch.invalidating(ctx, InvalidationStart{Keys: []string{key}}) // before any time is taken that bounds what follows
	now := t.now()
	env := remote.Envelope{
		Schema: c.schema, Epoch: t.epoch, Payload: payload,
		Created: now, Expires: now + ttl.Milliseconds(),
	}
	c.tellTags(&env, tags)
	bytes, err := env.Encode(key)
	if err != nil {
		return errors.Join(fmt.Errorf("%w: %w", ErrEncode, err), c.Invalidate(ctx, key))
	}
	// A Set that is delayed in the network can run long after its caller was told that it failed. Past this time it only
	// invalidates, and the repeated invalidation below waits for this time: so it cannot be overtaken by what it undoes.
	// Both are in whole milliseconds, so that the last one counts as late.
	notAfter := t.atLeast() + c.opts.RedisTimeout.Milliseconds() - 1
	latest := time.Now().Add(c.opts.RedisTimeout)
	p := c.part(key)
	message := pubsub.Message{Op: pubsub.Invalidate, Sender: c.sender(ctx, p), Keys: []string{key}}.Encode()

	c.count.sets.Add(1)
	callCtx, cancel := context.WithTimeout(ctx, c.opts.RedisTimeout)
	defer cancel()
	late := p.pending.late(key)
	moves, err := p.start(t.node)
	if err == nil {
		_, err = t.node.writes.Set(callCtx, key, bytes, c.lingering(ttl), t.epoch, notAfter, message)
	}
	if err != nil {
		c.redisFailed("set", err)
		p.pending.add([]string{key}, latest)
	} else {
		c.confirmed(p, moves, []string{key})
		if late {
			err = errLate
		}
	}
	c.evict(key) // the one that counts: see Invalidate
	if err != nil {
		return pendingError("Set", err)
	}
	return nil
}

// Invalidate drops the keys from Redis and from every instance. Call it after the source has committed, and also where the
// source does not say whether it has.
//
// Once it has returned nil, no Get that starts later on this instance returns an older value, not even by joining a load
// that is under way, and none on another instance that starts more than Options.MaxStaleness later; normally that takes one
// hop of Redis' pub/sub. It waits for Redis, in one round trip for up to 1000 keys, for ctx and Options.RedisTimeout each at most.
//
// It returns ErrPending if Redis did not confirm all of them, with a *KeysError that names those that it did not, ErrInvalidKey
// if some are not keys (the others are invalidated), and ErrClosed if nothing was done. The keys change all at once, those of a
// Redis Cluster that are in one partition do. Also under a ctx that has ended, the local copies are dropped and the
// rest is left to the background.
func (c *Cache[V]) Invalidate(ctx context.Context, keys ...string) error {
	if err := c.write(); err != nil {
		return err
	}
	defer c.writes.end()
	valid := make([]string, 0, len(keys))
	var errs []error
	for _, key := range keys {
		if err := checkKey(key); err != nil {
			errs = append(errs, err)
			continue
		}
		valid = append(valid, key)
	}
	if len(valid) > 0 {
		errs = append(errs, c.invalidate(ctx, valid))
	}
	return errors.Join(errs...)
}

// invalidate evicts, changes Redis, and evicts again.
//
// The first eviction only shortens the time in which this instance serves the old value. The second is the one that C2 and
// C4 rest on:
//
//  1. Invalidate has evicted, and its script has not run yet;
//  2. a Get finds nothing in L1, reads the old value from Redis, and stores it in L1 under a ticket that is newer than the
//     first eviction; or its flight has the old value and is still on its way;
//  3. the script runs; Invalidate returns;
//  4. the next Get would find the old value in L1, or join that flight.
//
// An eviction after 3 voids the entry, the ticket, and detaches the flight.
func (c *Cache[V]) invalidate(ctx context.Context, keys []string) error {
	c.evict(keys...)
	ctx = c.watch.invalidating(ctx, InvalidationStart{Keys: keys})
	c.count.invalidated.Add(uint64(len(keys)))
	late := c.late(keys)
	failed := c.invalidateRemote(ctx, keys)
	for _, e := range failed.all {
		c.redisFailed("invalidate", e.Err)
		// Pending before the second eviction: a Get that starts after it does not believe L2 about these keys.
		c.addPending(e.Keys, time.Now())
	}
	c.evict(keys...)
	failed.addOthers(late, errLate)
	return failed.pending("Invalidate")
}

// addPending makes keys pending, each in its part.
func (c *Cache[V]) addPending(keys []string, at time.Time) {
	for _, s := range c.byPart(keys) {
		s.pending.add(s.keys, at)
	}
}

// invalidateRemote changes Redis, and says of which keys that was not confirmed.
func (c *Cache[V]) invalidateRemote(ctx context.Context, keys []string) failures {
	shares := c.byPart(keys)
	if len(shares) == 1 { // as of one key, and always on a single Redis: nothing is to be sorted by nodes
		if n := shares[0].home.Load(); n != nil {
			return c.invalidateAt(ctx, n, keys)
		}
	}
	return c.invalidateNodes(ctx, shares)
}

// invalidateNodes changes each node that has some of shares, at once.
func (c *Cache[V]) invalidateNodes(ctx context.Context, shares []share) (failed failures) {
	var mu sync.Mutex // protects failed
	c.toNodes(ctx, shares, func(n *node, shares []share) {
		keys := slices.Clip(shares[0].keys)
		for _, s := range shares[1:] {
			keys = append(keys, s.keys...)
		}
		f := c.invalidateAt(ctx, n, keys)
		mu.Lock()
		defer mu.Unlock()
		failed.join(f)
	}, func(s share, err error) {
		mu.Lock()
		defer mu.Unlock()
		failed.addAll(s.keys, err)
	})
	return failed
}

// invalidateAt changes what one node has.
func (c *Cache[V]) invalidateAt(ctx context.Context, n *node, keys []string) (failed failures) {
	var away error
	for _, batch := range pubsub.Batches(keys) {
		if away != nil { // after one failure the rest is left to the background, not tried one timeout after the other
			failed.addAll(batch, away)
			continue
		}
		err := c.gathered(ctx, n, batch)
		if some := partly(err); some != nil {
			own := some.of(batch)
			for _, e := range own.all {
				if !isReply(e.Err) && !errors.Is(e.Err, errMoved) {
					away = e.Err
				}
			}
			failed.join(own)
			continue
		}
		if err != nil {
			away = err
			failed.addAll(batch, err)
		}
	}
	return failed
}

// gathered changes what one node has of a batch, together with other calls where there are many.
func (c *Cache[V]) gathered(ctx context.Context, n *node, keys []string) error {
	ctx, cancel := context.WithTimeout(ctx, c.opts.RedisTimeout)
	defer cancel()
	return n.gather.do(ctx, keys)
}

// sendInvalidation is one trip to a node: a script for each part that some of the keys are in.
func (c *Cache[V]) sendInvalidation(ctx context.Context, n *node, keys []string) error {
	all := c.byPart(keys)
	sent, moves, moved := startAll(n, all)
	var failed failures
	for _, s := range moved {
		failed.addAll(s.keys, errMoved)
	}
	invs := make([]remote.Invalidation, len(sent))
	for i, s := range sent {
		m := pubsub.Message{Op: pubsub.Invalidate, Sender: c.sender(ctx, s.part), Keys: s.keys}
		invs[i] = remote.Invalidation{Keys: s.keys, Message: m.Encode()}
	}
	for i, err := range n.writes.InvalidateMany(ctx, invs) {
		switch s := sent[i]; {
		case err == nil:
			c.confirmed(s.part, moves[i], s.keys)
		case len(all) == 1:
			return err
		default:
			failed.addAll(s.keys, err)
		}
	}
	return failed.partial()
}

// confirmed takes note of what Redis has confirmed, for the case that this Redis is lost. Where that has happened already,
// while the confirmation was on its way, it is to be repeated.
func (c *Cache[V]) confirmed(p *part, moves uint64, keys []string) {
	if !p.journal.add(moves, keys) {
		c.count.replayed.Add(uint64(len(keys)))
		p.pending.add(keys, time.Now())
	}
}

// InvalidateAll drops every entry of this cache from Redis and from every instance, with what Invalidate promises for one.
// It takes one round trip (in a Redis Cluster one to each master, at once) however many entries there are: they stay in
// Redis, unread, until their TTL.
//
// It returns ErrPending if Redis did not confirm, and ErrClosed if nothing was done.
func (c *Cache[V]) InvalidateAll(ctx context.Context) error {
	if err := c.write(); err != nil {
		return err
	}
	defer c.writes.end()
	c.flushLocal()
	failed := c.invalidateAllRemote(c.watch.invalidating(ctx, InvalidationStart{All: true}), c.parts)
	for p, err := range failed {
		c.redisFailed("invalidate all", err)
		p.pending.addAll(time.Now())
	}
	for _, p := range c.parts {
		c.flushOwn(p)
	}
	return pendingParts("InvalidateAll", failed)
}

// invalidateAllRemote starts a new epoch of parts, and returns those of which that is not confirmed.
func (c *Cache[V]) invalidateAllRemote(ctx context.Context, parts []*part) map[*part]error {
	return c.change(ctx, parts, func(ctx context.Context, n *node, shares []share, moves []uint64) []error {
		m := pubsub.Message{Op: pubsub.All, Sender: c.sender(ctx, shares[0].part)}
		errs := n.writes.InvalidateAll(ctx, numbers(shares), m.Encode())
		for i, s := range shares {
			if errs[i] == nil && !s.journal.addAll(moves[i]) {
				s.pending.addAll(time.Now())
			}
		}
		return errs
	})
}

// flushOwn makes everything read so far of a part void: L1, the tickets, the flights (which are joined only in the session of
// their ticket), and the epoch that the gate knows.
func (c *Cache[V]) flushOwn(p *part) {
	p.gate.shut()
	c.local.Flush(p.number)
	c.bus.hub.Kick(p.number)
}

// evict drops the local copies of keys, voids the tickets of those who are reading them, and detaches their flights.
func (c *Cache[V]) evict(keys ...string) {
	for _, key := range keys {
		c.local.Evict(key)
		c.flights.detach(key)
	}
}
