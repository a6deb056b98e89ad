package tiered

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tandemcache/tandem/local"
	"github.com/tandemcache/tandem/remote"
)

// ages are what the time of a refresh follows from.
type ages struct {
	age  time.Duration // since the load began
	ttl  time.Duration // from that to the expiry
	load time.Duration // how long the load took
}

func agesOf(e remote.Envelope, now int64) ages {
	return ages{
		age:  time.Duration(min(max(now-e.Created, 0), int64(maxDuration/time.Millisecond))) * time.Millisecond,
		ttl:  time.Duration(min(max(e.Expires-e.Created, 0), int64(maxDuration/time.Millisecond))) * time.Millisecond,
		load: e.Load,
	}
}

// dueIn returns how long until an entry is due for a refresh; it is if the result is not positive.
//
// That is at RefreshAfter, or at the expiry of an entry with a shorter life, less jitter, and less the time of the load times
// an exponentially distributed random number of mean 1: the rule of XFetch (Vattani, Chierichetti, Lowenstein: "Optimal
// Probabilistic Cache Stampede Prevention", VLDB 2015; its beta is 1). So one reader is early enough, by what the load takes,
// and not all are at once. XFetch draws at each read; here one draw is made for each copy of the entry in L1 and each read of
// it in L2, so that a hit in L1 only compares two times.
func (c *Cache[V]) dueIn(a ages) time.Duration {
	at := c.jitter(min(c.opts.RefreshAfter, a.ttl))
	early := time.Duration(min(rand.ExpFloat64()*float64(a.load), float64(at/2)))
	return at - early - a.age
}

// young reports whether an entry cannot be due yet, whatever is drawn: it was loaded after the copy that was found to be due.
func (c *Cache[V]) young(a ages) bool {
	jitter := max(c.opts.Jitter, 0)
	return float64(a.age) < float64(min(c.opts.RefreshAfter, a.ttl))*(1-jitter)/2
}

// age decides when what is about to enter L1 from L2 is due for a refresh; if it is due now, one begins.
func (c *Cache[V]) age(f *flight[V], a ages) {
	if c.opts.RefreshAfter <= 0 {
		return
	}
	if f.due = c.dueIn(a); f.due > 0 {
		return
	}
	f.due = local.RefreshPause
	if f.overdue != nil {
		*f.overdue = append(*f.overdue, f.key)
		return
	}
	c.refreshLater(f.ctx, f.key, f.load, f.ttl)
}

// ageLoaded decides when what was loaded is due for a refresh.
func (c *Cache[V]) ageLoaded(f *flight[V], a ages) {
	if c.opts.RefreshAfter > 0 {
		f.due = max(c.dueIn(a), local.RefreshPause)
	}
}

// refreshLater has key refreshed in the background, unless that is under way, has failed lately, or as many as may run at
// once do.
func (c *Cache[V]) refreshLater(ctx context.Context, key string, load LoadFunc[V], ttl time.Duration) {
	if load != nil {
		c.beginRefreshes(ctx, load, ttl, key)
	}
}

// refreshBatch is refreshLater for what a batch has found to be due: by one call of LoadMany, if there is that.
func (c *Cache[V]) refreshBatch(ctx context.Context, keys []string) {
	if len(keys) == 0 {
		return
	}
	if c.opts.LoadMany == nil {
		for _, key := range keys {
			c.refreshLater(ctx, key, c.opts.Load, 0)
		}
		return
	}
	for part := range slices.Chunk(keys, remote.MaxBatch) {
		c.beginRefreshes(ctx, nil, 0, part...)
	}
}

// beginRefreshes has one worker refresh keys, by LoadMany if load is nil.
func (c *Cache[V]) beginRefreshes(ctx context.Context, load LoadFunc[V], ttl time.Duration, keys ...string) {
	if c.opts.RefreshAfter <= 0 || c.closed.Load() {
		return
	}
	mine, full := c.refreshes.begin(keys...)
	c.count.refreshSkipped.Add(uint64(full))
	if len(mine) == 0 {
		return
	}
	ctx = context.WithoutCancel(ctx)
	fs := make([]*flight[V], len(mine))
	for i, key := range mine {
		fs[i] = &flight[V]{key: key, ctx: ctx, load: load, ttl: ttl, aged: &aged{}}
	}
	go func() {
		defer c.refreshes.free()
		g := &group[V]{c: c, ctx: ctx, budget: c.newBudget(), single: load != nil}
		ms := membersOf(fs)
		g.guard(ms, func() { g.refresh(ms) })
	}()
}

// aged is what a refresh has found in L2.
type aged struct {
	found   bool
	absent  bool
	payload []byte
	until   time.Time // its expiry
	done    bool      // by another instance: it is younger than the copy that is due
}

// outlasts reports whether the value is still there after d.
func (a *aged) outlasts(d time.Duration) bool { return a != nil && a.found && time.Until(a.until) > d }

// outcome is what a flight's load under a lease came to.
type outcome int

const (
	notLoaded outcome = iota
	loadFailed
	notStored  // it cannot be: too large, not encodable, no TTL
	loadStored // or kept out by an invalidation
)

// endRefresh is how a refresh lands: there is nobody who waits for it. An error without a load is a mistake of ours, or a
// codec's.
func (c *Cache[V]) endRefresh(f *flight[V], err error) {
	rested := restAWhile
	switch {
	case f.outcome == loadStored:
		c.count.refreshes.Add(1)
		rested = restNot
	case f.outcome != notLoaded:
		c.count.refreshes.Add(1)
		c.count.refreshErrors.Add(1)
		rested = restLonger
		c.logger.Log(levelWarn, "refresh", "tandem: a refresh failed, the value stays until it expires",
			"cache", c.name, "error", err)
	case err != nil:
		rested = restLonger
	case f.aged.done:
		rested = restNot
	}
	c.refreshes.end(f.key, rested)
}

// compare takes note of a refresh that has brought what was there. Its fill extends the entry; copies in other instances' L1
// learn of it when they are due, by one read of L2 each and no load.
func (c *Cache[V]) compare(f *flight[V], payload []byte, absent bool) {
	if a := f.aged; a != nil && a.found && a.absent == absent && bytes.Equal(a.payload, payload) {
		c.count.unchanged.Add(1)
	}
}

// replace drops what there still is of a key that the source does not have, where "not found" cannot be stored in its place.
func (c *Cache[V]) replace(f *flight[V]) {
	if !f.refresh && f.aged == nil && f.expired.Load() == nil &&
		(c.opts.StaleIfError <= 0 || c.local.Expired(f.key, c.opts.StaleIfError) == nil) {
		return
	}
	c.evict(f.key)
	c.spawn(func() { _ = c.invalidate(c.ctx, []string{f.key}) }) // what fails is repeated
}
