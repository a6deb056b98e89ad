package tiered

import "context"

// Peek returns what the tiers hold of key: from this process, else from Redis. It loads nothing, waits for no load of anybody's, and
// leaves both tiers as they are. It obeys the contract of Get, and is asked of Redis like it: ctx and Options.RedisTimeout bound it.
//
// It returns ErrNotFound if neither tier has a value, if Redis cannot be asked, and for a key that is known not to exist;
// ctx's error if ctx ends first; ErrInvalidKey and ErrClosed.
func (c *Cache[V]) Peek(ctx context.Context, key string) (V, error) {
	var zero V
	if err := c.checkCall(key); err != nil {
		return zero, err
	}
	if e := c.local.Get(key); e != nil {
		if e.Absent {
			return zero, ErrNotFound
		}
		return c.own(e.Value, nil)
	}
	v, found := c.peekRemote(ctx, key)
	switch {
	case found:
		return c.own(v, nil)
	case ctx.Err() != nil:
		return zero, ctx.Err()
	}
	return zero, ErrNotFound
}

// peekRemote is the part of fetch that finds a value.
func (c *Cache[V]) peekRemote(ctx context.Context, key string) (v V, found bool) {
	f := &flight[V]{key: key, ctx: ctx}
	b := c.newBudget()
	o := c.awaitGate(ctx, b, c.part(key))
	if !o.open || c.isPending(key) || !o.node.breaker.allow() {
		return v, false
	}
	raw, err := c.readRemote(f, b, o.node)
	if isBad(err) {
		c.bad(key, err)
		err = nil
	}
	if ctx.Err() == nil { // else it says nothing about Redis
		c.trip(o.node, key, "read", err)
	}
	if err != nil || raw == nil || !o.same() {
		return v, false
	}
	e, use, err := c.open(key, raw, o.epoch, o.now(), o.cleared)
	if err != nil {
		c.bad(key, err)
	}
	if use != usable {
		return v, false
	}
	c.count.remoteHits.Add(1)
	return e.val, !e.absent
}

// EvictLocal drops this process's copies of keys, and nothing else: Redis and other instances keep theirs. It is for memory, not
// for a value that has changed: see Invalidate.
func (c *Cache[V]) EvictLocal(keys ...string) { c.evict(keys...) }
