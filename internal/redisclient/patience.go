package redisclient

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

type (
	dialFunc  func(ctx context.Context, network, addr string) (net.Conn, error)
	slotsFunc = func(ctx context.Context) ([]redis.ClusterSlot, error)
)

// patience calls the owner's code that connections are made with, and counts the calls that it has given up on.
type patience struct{ abandoned atomic.Int64 }

// dialing returns when the context ends also if the dialer does not look at it, as go-redis' own does not during a TLS handshake.
// What such a dialer brings later is closed.
func (p *patience) dialing(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		return within(ctx, p, "the dialer", func(ctx context.Context) (net.Conn, error) { return dial(ctx, network, addr) },
			func(conn net.Conn) { _ = conn.Close() })
	}
}

// connecting is that for OnConnect, which ends with its connection at the latest if that is what it waits for.
func (p *patience) connecting(hook VerifyFunc) VerifyFunc {
	if hook == nil {
		return nil
	}
	return func(ctx context.Context, cn *redis.Conn) error {
		_, err := within(ctx, p, "OnConnect", func(ctx context.Context) (struct{}, error) { return struct{}{}, hook(ctx, cn) }, func(struct{}) {})
		return err
	}
}

// finding is that for ClusterSlots, which go-redis calls on a goroutine of its own as well.
func (p *patience) finding(slots slotsFunc) slotsFunc {
	if slots == nil {
		return nil
	}
	return func(ctx context.Context) ([]redis.ClusterSlot, error) {
		return within(ctx, p, "ClusterSlots", slots, func([]redis.ClusterSlot) {})
	}
}

// within calls f, whose panic or end of its goroutine is an error, and returns ctx's if that ends first. What f brings after
// that goes to late. It does not call f while too many calls hang.
func within[T any](ctx context.Context, p *patience, what string, f func(context.Context) (T, error), late func(T)) (T, error) {
	if p.abandoned.Load() >= maxAbandoned {
		var none T
		return none, errAbandoned
	}
	return await(ctx, p, what, f, late)
}

// await is within that calls f in any case.
//
// go-redis connects also for nobody's sake: a cluster's topology is asked for under a context that never ends, and not again
// before that has come back. Without a deadline f has maxDialTimeout.
func await[T any](ctx context.Context, p *patience, what string, f func(context.Context) (T, error), late func(T)) (T, error) {
	type result struct {
		value T
		err   error
	}
	at, bounded := ctx.Deadline()
	if !bounded {
		at = time.Now().Add(maxDialTimeout)
	}
	ctx, cancel := context.WithDeadline(ctx, at) // which the given one may have without ever being done, see Deadline
	defer cancel()
	done := make(chan result, 1)
	go func() {
		r := result{err: fmt.Errorf("%s called runtime.Goexit", what)}
		defer func() {
			if v := recover(); v != nil { // it may be the user's
				r.err = fmt.Errorf("%s panicked: %v", what, v)
			}
			done <- r
		}()
		r.value, r.err = f(ctx)
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		p.abandoned.Add(1)
		go func() {
			defer p.abandoned.Add(-1)
			defer func() { _ = recover() }() // late calls the user's code as well, and nobody is left to tell
			if r := <-done; r.err == nil {
				late(r.value)
			}
		}()
		var none T
		return none, ctx.Err()
	}
}
