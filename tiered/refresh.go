package tiered

import (
	"bytes"
	"context"
	"math/rand/v2"
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
	if f.due = c.dueIn(a); f.due <= 0 {
		f.due = local.RefreshPause
		c.refreshLater(f.ctx, f.key, f.load, f.ttl)
	}
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
	if load == nil || c.opts.RefreshAfter <= 0 || c.closed.Load() {
		return
	}
	switch c.refreshes.begin(key) {
	case refreshNow:
		f := &flight[V]{key: key, ctx: context.WithoutCancel(ctx), load: load, ttl: ttl, aged: &aged{}}
		go c.flyRefresh(f)
	case refreshFull:
		c.count.refreshSkipped.Add(1)
	case refreshResting:
	}
}

// aged is what a refresh has found in L2.
type aged struct {
	found   bool
	absent  bool
	payload []byte
	until   time.Time // its expiry
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

// flyRefresh is the life of a refresh. It is no flight that a Get can join: whoever misses has a value in L2 to be had at once,
// or waits for the refresh's lease as another instance would.
func (c *Cache[V]) flyRefresh(f *flight[V]) {
	rested := restAWhile
	defer func() { c.refreshes.end(f.key, rested) }()
	defer func() {
		if p := recover(); p != nil { // a mistake of ours, which must not end the process
			rested = restLonger
		}
	}()
	err := c.refreshRemote(f, &rested)
	switch f.outcome {
	case notLoaded:
	case loadStored:
		c.count.refreshes.Add(1)
		rested = restNot
	case loadFailed, notStored:
		c.count.refreshes.Add(1)
		c.count.refreshErrors.Add(1)
		rested = restLonger
		c.logger.Log(levelWarn, "refresh", "tandem: a refresh failed, the value stays until it expires",
			"cache", c.name, "error", err)
	}
}

// refreshRemote loads the value under a lease, as a flight does, unless L2 has a younger one than the copy that is due: of
// another instance, which has refreshed it. L1 then takes that.
//
// Without Redis there is no lease, so nothing is done: L1 ends what it has by MaxStaleness.
func (c *Cache[V]) refreshRemote(f *flight[V], rested *resting) error {
	f.ticket = c.ticket(f.key) // before the gate is looked at, which may be of an earlier session
	f.heard = c.foreign.count(f.key)
	b, o := c.newBudget(), c.gate.look()
	if !o.open || !o.keep || c.pending.has(f.key) || !c.breaker.allow() {
		return nil
	}
	f.ticket = f.ticket.NotAfter(o.sent)
	raw, err := c.readRemote(f, b)
	if isBad(err) {
		c.bad(f.key, err)
		err = nil
	}
	c.trip(f.key, "read", err)
	if err != nil || !c.gate.same(o) {
		return err
	}
	seen := remote.Wanted
	if raw == nil {
		c.count.remoteMisses.Add(1)
	} else {
		e, use, err := c.open(f.key, raw, o.epoch, o.now())
		if err != nil {
			c.bad(f.key, err)
		}
		if use == usable && c.young(e.age) {
			*rested = restNot
			_, err := c.take(f, e, o)
			return err
		}
		if use == usable {
			f.aged = &aged{found: true, absent: e.absent, payload: e.payload, until: time.Now().Add(e.life)}
		}
		if use != otherEpoch {
			seen = remote.Unusable(raw) // another one would be the answer
		}
	}
	token := remote.NewToken()
	l, err := c.acquire(f, b, token, seen)
	if err != nil || !c.gate.same(o) {
		c.releaseLater(f.key, token)
		return err
	}
	switch l.Outcome {
	case remote.Acquired:
		_, err = c.loadLeased(f, b, l)
		return err
	case remote.Found:
		e, use, err := c.open(f.key, l.Value, l.Epoch, l.Now)
		if err != nil {
			c.bad(f.key, err)
		}
		if use == usable {
			_, err = c.take(f, e, o)
			return err
		}
	case remote.Held: // somebody refreshes it; L1 asks again after the pause
	}
	return nil
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
