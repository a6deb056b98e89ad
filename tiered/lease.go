package tiered

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/remote"
)

const (
	// leaseTTL bounds how long a holder that died is waited for; one that lives renews it three times within.
	leaseTTL = 3 * time.Second
	// firstPoll and maxPoll pace the fallback for a word that was lost.
	firstPoll = 50 * time.Millisecond
	maxPoll   = 500 * time.Millisecond
	// maxAttempts bounds how often one flight asks for a lease and is given a value that it cannot use.
	maxAttempts = 4
)

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

// releaseLater gives up a lease that Redis may or may not have granted, so that nobody waits for it until its TTL.
func (c *Cache[V]) releaseLater(n *node, key string, token remote.Token) {
	c.courtesy(func(ctx context.Context) { _ = n.reads.Release(ctx, key, token, c.wake(key, pubsub.Failed)) })
}

// courtesy gives up leases in the background, if there are any. A few run at a time, and the rest is left to the leases' TTL.
func (c *Cache[V]) courtesy(release func(ctx context.Context)) {
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
		release(ctx)
	}) {
		<-c.courtesies
	}
}
