package tiered

import (
	"errors"
	"fmt"
	"time"

	"github.com/tandemcache/tandem/local"
)

// What has expired may stand in for a load that fails or takes long. What was invalidated never does: a stand-in obeys the
// rule of a hit in all but the expiry, at the moment when it is given out: its key was not evicted since the value was read, and
// its session is the current one, which proves that it hears. What comes from L2 needs Redis to be the one that it was read
// from, too, in the epoch that it was read in.

// leftover is an expired value of L2, not decoded yet.
type leftover struct {
	payload []byte
	ticket  local.Ticket // of the flight that read it
	o       opening      // on whose word
	until   int64        // ms of Redis time
}

// standIn is a value that may be given out as long as it holds.
type standIn[V any] struct {
	val V
	ok  bool
	// What it rests on: L1's entry, or the ticket of who read it from L2.
	entry  *local.Entry[V]
	ticket local.Ticket
}

// holds reports whether key's stand-in may be given out now.
func (c *Cache[V]) holds(key string, s standIn[V]) bool {
	if s.entry != nil {
		return c.local.Stands(s.entry)
	}
	return c.local.Good(key, s.ticket)
}

// lingering returns how long Redis keeps what is stored for ttl.
func (c *Cache[V]) lingering(ttl time.Duration) time.Duration {
	return ttl + max(c.opts.StaleIfError, 0)
}

// keepExpired remembers what L2 holds, for the case that the load fails. Not if the word on which it was read is in doubt:
// that lets it be returned at once, and a load may take longer.
func (c *Cache[V]) keepExpired(f *flight[V], e decoded[V], o opening) {
	c.count.remoteMisses.Add(1)
	if o.keep {
		until := o.now() + (e.life + c.opts.StaleIfError).Milliseconds()
		f.expired.Store(&leftover{payload: e.payload, ticket: f.ticket, o: o, until: until})
	}
}

// standIn returns what may stand in for f's load now: from L2, else what L1 still has.
func (c *Cache[V]) standIn(f *flight[V]) standIn[V] {
	if old := f.expired.Load(); old != nil {
		v, err := unmarshal[V](c.opts.Codec, c.entry(f.key), old.payload)
		s := standIn[V]{val: v, ticket: old.ticket, ok: true}
		switch {
		case err != nil:
			f.expired.Store(nil)
			c.bad(f.key, fmt.Errorf("%w: %w", errUndecodable, err))
		case old.o.now() < old.until && old.o.same() && c.holds(f.key, s):
			return s
		}
	}
	if e := c.local.Expired(f.key, c.opts.StaleIfError); e != nil {
		return standIn[V]{val: e.Value, entry: e, ok: true}
	}
	return standIn[V]{}
}

// afterLoad looks for what stands in for a load that failed.
func (c *Cache[V]) afterLoad(f *flight[V]) {
	if c.opts.StaleIfError <= 0 || f.err == nil || errors.Is(f.err, ErrNotFound) || errors.Is(f.err, ErrClosed) {
		return
	}
	if f.hard = c.standIn(f); f.hard.ok {
		c.logger.Log(levelWarn, "stale", "tandem: a load failed, serving an expired value", "cache", c.name, "error", f.err)
	}
}

// mayEndEarly is said of a flight before it is registered.
func (c *Cache[V]) mayEndEarly(f *flight[V]) {
	if c.opts.SoftTimeout > 0 {
		f.began, f.early = time.Now(), make(chan struct{})
	}
}

// offerSoon offers those who wait for flights what stands in, once they have waited for SoftTimeout. The flights have begun
// together. Stop it when they have ended.
func (c *Cache[V]) offerSoon(fs ...*flight[V]) (stop func()) {
	if c.opts.SoftTimeout <= 0 || len(fs) == 0 {
		return func() {}
	}
	ended := make(chan struct{})
	go func() {
		timer := time.NewTimer(max(c.opts.SoftTimeout-time.Since(fs[0].began), 0))
		defer timer.Stop()
		for {
			select {
			case <-ended:
				return
			case <-timer.C:
			}
			if fs = c.offer(fs); len(fs) == 0 {
				return
			}
			// Redis may take long to say what there is.
			timer.Reset(max(c.opts.SoftTimeout/4, minDuration))
		}
	}()
	return func() { close(ended) }
}

// offer says what stands in for those flights that have it, and returns the others that have not ended.
func (c *Cache[V]) offer(fs []*flight[V]) (rest []*flight[V]) {
	for _, f := range fs {
		select {
		case <-f.done:
			continue
		default:
		}
		switch s := c.standIn(f); {
		case !s.ok:
			rest = append(rest, f)
		case f.offered.CompareAndSwap(false, true):
			f.soft = s
			close(f.early)
		}
	}
	return rest
}

// mayBeSoft reports whether a Get of key could be offered L1's expired value while Redis is still asked. What is in Redis
// stands in once it has been read.
func (c *Cache[V]) mayBeSoft(key string) bool {
	return c.opts.SoftTimeout > 0 && c.opts.SoftTimeout < c.opts.RedisTimeout && c.local.Expired(key, c.opts.StaleIfError) != nil
}

// softly returns what stands in while f goes on. One who has joined f, or waited for it, since it was offered may have come
// after an invalidation.
func (c *Cache[V]) softly(f *flight[V], tell *bool) (V, bool) {
	if !c.holds(f.key, f.soft) {
		var zero V
		return zero, false
	}
	return c.serveStale(f.soft, tell), true
}

func (c *Cache[V]) serveStale(s standIn[V], tell *bool) V {
	c.count.stale.Add(1)
	if tell != nil {
		*tell = true
	}
	return s.val
}
