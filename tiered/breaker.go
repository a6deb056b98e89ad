package tiered

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/mono"
)

const (
	// tripAfter is how many keys in a row must find Redis unreachable. Different keys, because one whose value is too large
	// to arrive in time says nothing about the others.
	tripAfter = 3
	// firstRest and maxRest are how long it is left alone before one flight tries again.
	firstRest = 100 * time.Millisecond
	maxRest   = 2 * time.Second
)

// breaker keeps flights from waiting for Redis when the connections that they use do not work although the heartbeat's do.
// (Where neither does, the gate is closed already.) While it is open, one flight in each rest is let through to try.
//
// It is ours and not a library's because it has to share the gate's idea of what an outage is, and because the core links
// nothing but its two tiers.
type breaker struct {
	// troubled is whether there is anything to reset: what a trip that worked looks at, and nothing more.
	troubled atomic.Bool
	opened   atomic.Uint64 // how often

	mu       sync.Mutex // protects what follows
	failures int
	lastKey  string
	rest     time.Duration // zero while it is closed
	until    int64         // by mono: when the next flight may try
	probing  bool          // one is trying
}

// allow reports whether a flight may go to Redis. While the breaker is open, the flight that is allowed is the probe.
func (b *breaker) allow() bool {
	if !b.troubled.Load() {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rest == 0 {
		return true
	}
	now := mono.Now()
	if now < b.until {
		return false
	}
	b.until = now + int64(b.rest) // the next one, should this one never tell
	b.probing = true
	return true
}

// worked says that Redis has answered, whatever it said.
func (b *breaker) worked() {
	if !b.troubled.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures, b.lastKey, b.rest, b.probing = 0, "", 0, false
	b.troubled.Store(false)
}

// failed says that a trip for key found Redis unreachable, and reports whether that has opened the breaker.
func (b *breaker) failed(key string) (opens bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.troubled.Store(true)
	if b.rest > 0 {
		if !b.probing { // one of those that were on their way when it opened
			return false
		}
		b.probing = false
		b.rest = min(2*b.rest, maxRest)
		b.until = mono.Now() + int64(b.rest)
		return false
	}
	if key == b.lastKey {
		return false
	}
	b.lastKey = key
	if b.failures++; b.failures < tripAfter {
		return false
	}
	b.rest = firstRest
	b.until = mono.Now() + int64(b.rest)
	b.opened.Add(1)
	return true
}

func (b *breaker) isOpen() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rest > 0
}

// answered reports whether a trip's outcome means that Redis answers reads. What it says itself (out of memory, no permission, a
// wrong type) is an answer.
func answered(err error) bool {
	var reply redis.Error
	return err == nil || errors.As(err, &reply) && !errors.Is(err, errNotTheServer)
}

// unreachable reports whether it means that Redis does not. A trip that was not made, or only to find out which server there is,
// means neither.
func unreachable(err error) bool {
	return !answered(err) && !errors.Is(err, errBudget) && !errors.Is(err, errNotTheServer) && !errors.Is(err, context.Canceled)
}
