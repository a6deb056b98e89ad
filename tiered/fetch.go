package tiered

import (
	"context"
	"errors"
	"log/slog"

	"github.com/tandemcache/tandem/remote"
)

const (
	levelInfo = slog.LevelInfo
	levelWarn = slog.LevelWarn
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

func (c *Cache[V]) redisFailed(what string, err error) {
	if errors.Is(err, errBudget) || c.ctx.Err() != nil {
		return
	}
	c.count.redisErrors.Add(1)
	c.logger.Log(levelWarn, "redis "+what, "tandem: Redis failed, going on without it", "cache", c.name, "what", what, "error", err)
}
