package tiered

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/remote"
)

// keeping says where a value that was loaded without a lease may be stored.
type keeping bool

const (
	nowhere keeping = false
	inLocal keeping = true // under the flight's ticket: the rule of a hit holds for it as for any entry
)

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

// keptOut is for a value that neither tier takes, because the lease is not f's own any more. What L1 has is older than what a
// refresh returns, and Redis has told nobody here to drop it if it was another refresh that took the lease.
func (c *Cache[V]) keptOut(f *flight[V]) {
	c.count.refused.Add(1)
	if f.refresh {
		c.evict(f.key)
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
