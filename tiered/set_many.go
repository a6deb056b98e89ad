package tiered

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/remote"
)

// SetMany stores values in Redis and makes every instance drop its copies of the old ones: Set for each key, in one round trip
// for up to 1000. They do not change all at once: a reader may see some new values beside old ones.
//
// Once it has returned nil, what Set promises holds for each key; where it has not, for each that the error does not name. It
// waits for Redis for ctx and Options.RedisTimeout at most, and as long once more if some values cannot be stored.
//
// The error joins a *KeysError for each reason, with what Set returns for one key: ErrPending if Redis did not confirm,
// ErrEncode, ErrTooLarge or ErrInvalidTag for values that cannot be stored (the keys are then invalidated), ErrInvalidKey (nothing was done),
// ErrClosed. One key's error does not keep the others out.
func (c *Cache[V]) SetMany(ctx context.Context, values map[string]V) error {
	var failed failures
	var replaced []string // that cannot be stored
	sets := make([]remote.Setting, 0, len(values))
	for key, v := range values {
		if err := c.checkCall(key); err != nil {
			failed.add(key, err)
			continue
		}
		t, known := c.part(key).gate.known()
		set, ok, err := c.setting(key, v, t)
		if err != nil {
			failed.add(key, err)
		}
		if !ok || !known {
			replaced = append(replaced, key)
			continue
		}
		sets = append(sets, set)
	}
	if len(sets) > 0 {
		c.setMany(ctx, sets, &failed)
	}
	if len(replaced) > 0 {
		if err := c.Invalidate(ctx, replaced...); err != nil {
			failed.addAll(replaced, err)
		}
	}
	return failed.joined()
}

// setting returns what is to be stored of one value, stamped with the time of t; not ok means nothing.
func (c *Cache[V]) setting(key string, v V, t trust) (set remote.Setting, ok bool, err error) {
	ttl, err := c.ttlFor(key, v, 0)
	if err != nil || ttl <= 0 {
		return remote.Setting{}, false, err
	}
	tags, err := c.tagsOf(key, v)
	if err != nil {
		return remote.Setting{}, false, err
	}
	payload, err := c.encode(key, v, tags)
	if err != nil {
		return remote.Setting{}, false, err
	}
	ttl = c.jitter(ttl)
	now := t.now()
	env := remote.Envelope{
		Schema: c.schema, Epoch: t.epoch, Payload: payload,
		Created: now, Expires: now + ttl.Milliseconds(),
	}
	c.tellTags(&env, tags)
	bytes, err := env.Encode(key)
	if err != nil {
		return remote.Setting{}, false, fmt.Errorf("%w: %w", ErrEncode, err)
	}
	return remote.Setting{Key: key, Envelope: bytes, TTL: c.lingering(ttl), Epoch: t.epoch}, true, nil
}

// setMany evicts, changes Redis, and evicts again: see invalidate, and set for the times.
func (c *Cache[V]) setMany(ctx context.Context, sets []remote.Setting, failed *failures) {
	keys := make([]string, len(sets))
	for i, set := range sets {
		keys[i] = set.Key
	}
	if err := c.write(); err != nil {
		failed.addAll(keys, err)
		return
	}
	defer c.writes.end()
	c.evict(keys...)
	ctx = c.watch.invalidating(ctx, InvalidationStart{Keys: keys}) // before the times that bound what follows
	of := make(map[*node][]remote.Setting, 1)
	for _, set := range sets {
		p := c.part(set.Key)
		t, _ := p.gate.known()
		set.NotAfter = t.atLeast() + c.opts.RedisTimeout.Milliseconds() - 1
		set.Message = pubsub.Message{Op: pubsub.Invalidate, Sender: c.sender(ctx, p), Keys: []string{set.Key}}.Encode()
		of[t.node] = append(of[t.node], set)
	}
	latest := time.Now().Add(c.opts.RedisTimeout)

	c.count.sets.Add(uint64(len(sets)))
	callCtx, cancel := context.WithTimeout(ctx, c.opts.RedisTimeout)
	defer cancel()
	late := c.late(keys)
	var mu sync.Mutex // protects refused
	var refused failures
	var wg sync.WaitGroup
	for n, sets := range of {
		wg.Go(func() {
			r := c.setAt(callCtx, n, sets)
			mu.Lock()
			defer mu.Unlock()
			refused.join(r)
		})
	}
	wg.Wait()
	for _, e := range refused.all {
		c.redisFailed("set", e.Err)
		// Before the second eviction: a Get that starts after it does not believe L2 about these keys.
		c.addPending(e.Keys, latest)
	}
	c.evict(keys...) // the one that counts
	refused.addOthers(late, errLate)
	for _, e := range refused.all {
		failed.all = append(failed.all, &KeysError{Keys: e.Keys, Err: pendingError("SetMany", e.Err)})
	}
}

// setAt stores what one node has, a round trip for each batch, and says what was not confirmed. If the node is away, the rest is left to
// the background.
func (c *Cache[V]) setAt(ctx context.Context, n *node, sets []remote.Setting) (refused failures) {
	var away error
	for batch := range slices.Chunk(sets, remote.MaxBatch) {
		if away != nil {
			for _, set := range batch {
				refused.add(set.Key, away)
			}
			continue
		}
		away = c.setBatch(ctx, n, batch, &refused)
	}
	return refused
}

// setBatch makes one round trip, and returns why the node is away, if it is.
func (c *Cache[V]) setBatch(ctx context.Context, n *node, sets []remote.Setting, refused *failures) (away error) {
	all := make([]string, len(sets))
	for i, set := range sets {
		all[i] = set.Key
	}
	shares, begun, moved := startAll(n, c.byPart(all))
	moves := make(map[*part]uint64, len(shares))
	for i, s := range shares {
		moves[s.part] = begun[i]
	}
	for _, gone := range moved {
		refused.addAll(gone.keys, errMoved)
		sets = slices.DeleteFunc(slices.Clone(sets), func(s remote.Setting) bool { return c.part(s.Key) == gone.part })
	}
	taken := make([]string, 0, len(sets))
	for i, a := range n.writes.SetMany(ctx, sets) {
		switch {
		case a.Err == nil:
			taken = append(taken, sets[i].Key)
			continue
		case !isReply(a.Err):
			away = a.Err
		}
		refused.add(sets[i].Key, a.Err)
	}
	for _, s := range c.byPart(taken) {
		if len(s.keys) > 0 {
			c.confirmed(s.part, moves[s.part], s.keys)
		}
	}
	return away
}
