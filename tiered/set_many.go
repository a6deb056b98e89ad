package tiered

import (
	"context"
	"fmt"
	"slices"
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
	t, known := c.gate.known()
	sets := make([]remote.Setting, 0, len(values))
	for key, v := range values {
		if err := c.checkCall(key); err != nil {
			failed.add(key, err)
			continue
		}
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
		c.setMany(ctx, sets, t, &failed)
	}
	if len(replaced) > 0 {
		if err := c.Invalidate(ctx, replaced...); err != nil {
			for _, key := range replaced {
				failed.add(key, err)
			}
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
	return remote.Setting{Key: key, Envelope: bytes, TTL: c.lingering(ttl)}, true, nil
}

// setMany evicts, changes Redis, and evicts again: see invalidate, and set for the times.
func (c *Cache[V]) setMany(ctx context.Context, sets []remote.Setting, t trust, failed *failures) {
	keys := make([]string, len(sets))
	for i, set := range sets {
		keys[i] = set.Key
	}
	if !c.write() {
		for _, key := range keys {
			failed.add(key, ErrClosed)
		}
		return
	}
	defer c.writing.Done()
	c.evict(keys...)
	ctx = c.watch.invalidating(ctx, InvalidationStart{Keys: keys}) // before the times that bound what follows
	for i, key := range keys {
		sets[i].Message = pubsub.Message{Op: pubsub.Invalidate, Sender: c.sender(ctx), Keys: []string{key}}.Encode()
	}
	notAfter := t.atLeast() + c.opts.RedisTimeout.Milliseconds() - 1
	latest := time.Now().Add(c.opts.RedisTimeout)

	c.count.sets.Add(uint64(len(sets)))
	callCtx, cancel := context.WithTimeout(ctx, c.opts.RedisTimeout)
	defer cancel()
	var refused failures
	var away error // why Redis has not answered
	for part := range slices.Chunk(sets, remote.MaxBatch) {
		away = c.setPart(callCtx, part, t.epoch, notAfter, away, &refused)
	}
	for _, e := range refused.all {
		c.redisFailed("set", e.Err)
		// Before the second eviction: a Get that starts after it does not believe L2 about these keys.
		c.pending.add(e.Keys, latest)
	}
	c.evict(keys...) // the one that counts
	for _, e := range refused.all {
		failed.all = append(failed.all, &KeysError{Keys: e.Keys, Err: pendingError("SetMany", e.Err)})
	}
}

// setPart makes one round trip, or none if Redis is away: the rest is left to the background then. It returns whether it is.
func (c *Cache[V]) setPart(ctx context.Context, sets []remote.Setting, epoch uint64, notAfter int64, away error, refused *failures) error {
	if away != nil {
		for _, set := range sets {
			refused.add(set.Key, away)
		}
		return away
	}
	moves := c.journal.begin()
	taken := make([]string, 0, len(sets))
	for i, a := range c.writes.SetMany(ctx, sets, epoch, notAfter) {
		switch {
		case a.Err == nil:
			taken = append(taken, sets[i].Key)
			continue
		case !isReply(a.Err):
			away = a.Err
		}
		refused.add(sets[i].Key, a.Err)
	}
	if len(taken) > 0 {
		c.confirmed(moves, taken)
	}
	return away
}
