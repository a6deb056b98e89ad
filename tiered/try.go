package tiered

import (
	"context"
	"reflect"
	"time"

	"github.com/tandemcache/tandem/remote/codec"
)

// A value that is in Redis is mostly one round trip away, and giving that trip to a goroutine costs as much as the rest of it:
// a switch there and one back, each with a thread that is woken. So the caller who starts a flight makes it himself where
// that cannot hold him up for longer than he has asked for, and gives the flight away with the first thing that is not as
// usual: an entry that is missing or cannot be used, a Redis in trouble, code of the user.

// mayTry reports whether the caller of Get runs n's first steps.
//
// A socket that is waited for looks at a deadline and not at a cancellation, and the trip is that of all who join. So the
// caller's deadline must be no nearer than the trip's; a cancellation is noticed after RedisTimeout at the latest.
func (c *Cache[V]) mayTry(ctx context.Context, n *flight[V]) bool {
	if !c.tries || n.refresh || c.mayBeSoft(n.key) {
		return false
	}
	at, ok := ctx.Deadline()
	return !ok || time.Until(at) > c.opts.RedisTimeout
}

// try runs f as far as that needs nothing but an entry in Redis, and reports whether that was all. If not, a goroutine of
// its own goes on with the flight.
func (c *Cache[V]) try(f *flight[V]) (done bool) {
	o := c.look(f.key)
	if !o.open || c.isPending(f.key) || o.node.breaker.troubled.Load() {
		go c.fly(f)
		return false
	}
	given := false
	defer func() {
		if given {
			return
		}
		f.err, done = ErrLoaderExited, true // as in flyOn
		if p := recover(); p != nil {
			f.err = &PanicError{Value: p}
		}
		c.flights.finish(f)
	}()
	c.flights.believe(f, o)
	b := c.newBudget()
	raw, err := c.readRemote(f, b, o.node)
	if err == nil && raw != nil && o.same() {
		if e, use, _ := c.open(f.key, raw, o.epoch, o.now(), o.cleared); use == usable {
			f.val, f.err = c.take(f, e, o)
			given = true
			c.flights.finish(f)
			return true
		}
	}
	given = true
	go c.flyOn(f, func() (V, error) { return c.judge(f, b, o, raw, err) })
	return false
}

// triesWith reports whether a caller of Get may run what is between Redis and him: a codec or a Cost of the user may block,
// where he would have left. (A method of V that one of our codecs calls may too, and then it is his own.)
func triesWith[V any](opts Options[V]) bool {
	if opts.NoLease || opts.Cost != nil {
		return false
	}
	for _, ours := range []codec.Codec{codec.Default, codec.JSON, codec.Raw} {
		if reflect.TypeOf(opts.Codec) == reflect.TypeOf(ours) {
			return true
		}
	}
	return false
}
