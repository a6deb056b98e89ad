package pubsub

import (
	"errors"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// keptMark is the mark of a version that was taken over from the server before: see scripts/beat.lua.
const keptMark = "="

// patienceWithout is how many heartbeats in a row a master may refuse for want of its replicas before it is left: they are
// often only late. If nobody else has taken its place by then, twice as many, and so on.
const patienceWithout = 3

// origin is whom a heartbeat has reached.
type origin struct {
	id     string // its replication id, "" if it does not tell
	run    string // its run id, which is its process'
	offset int64  // how far its stream of writes had come
}

// history is what beatLoop remembers of the heartbeats before.
type history struct {
	server  origin // of the last one that succeeded
	begun   bool   // one has succeeded
	failing int    // how many have failed since
}

// Server returns the replication id of the server that takes the heartbeats, "" if it does not tell; not known means that
// the next heartbeat decides. What is read from another server is not covered by them.
func (b *Bus) Server() (id string, known bool) {
	if p := b.server.Load(); p != nil {
		return *p, true
	}
	return "", false
}

// Reached says to which server a new connection leads, and returns whether it is the heartbeat's or that is not known. If
// it is another one, the next heartbeat decides for all of them. It comes when it is due, or when the subscription is back,
// which backs off: behind an address that leads to several masters in turn, hurrying would not end.
func (b *Bus) Reached(id string) bool {
	want, known := b.Server()
	switch {
	case !known:
		b.reached.add(id)
		return true
	case id == want:
		return true
	}
	b.doubtServer()
	b.redial()
	return false
}

func (b *Bus) doubtServer() {
	b.reached.reset()
	b.server.Store(nil)
}

// reached are the servers to which connections led that were made while nobody knew which is the one.
type reached struct {
	mu  sync.Mutex
	ids map[string]struct{}
}

func (r *reached) add(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ids == nil {
		r.ids = make(map[string]struct{})
	}
	r.ids[id] = struct{}{}
}

func (r *reached) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids = nil
}

// others reports whether some led to another server than id.
func (r *reached) others(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for other := range r.ids {
		if other != id {
			return true
		}
	}
	return false
}

// follow takes the outcome of a heartbeat, has everybody dial anew where that is needed, and reports whether the server may
// lack writes that an earlier one had. Nobody knows the server then: not before the members know that it has moved may
// connections to the new one be used, which is what settle says.
func (b *Bus) follow(s origin, same bool, err error) (moved bool) {
	h := &b.history
	if err != nil {
		h.failing++
		if b.ctx.Err() == nil && leave(err, h.failing) {
			b.doubtServer()
			b.redial()
		}
		return false
	}
	another := h.begun && s.id != h.server.id && !same
	moved = another || (h.begun && s.id == "" && h.failing > 0)
	*h = history{server: s, begun: true}
	if another || b.reached.others(s.id) {
		b.doubtServer()
		b.redial()
	}
	return moved
}

// settle says that the server of a heartbeat that succeeded is the one.
func (b *Bus) settle(s origin) {
	b.server.Store(&s.id)
	b.reached.reset()
}

// leave reports whether a heartbeat's failure is a reason to dial anew: the server does not take writes, or was not reached.
// What else it answers (busy, loading, no permission) another connection would hear as well.
func leave(err error, failing int) bool {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return true
	}
	// Older servers put the error of a command in a script behind words of their own.
	text := reply.Error()
	switch {
	case strings.Contains(text, "READONLY "), strings.Contains(text, "MASTERDOWN "):
		return true
	case strings.Contains(text, "NOREPLICAS "):
		n := failing / patienceWithout
		return failing%patienceWithout == 0 && n&(n-1) == 0
	}
	return false
}
