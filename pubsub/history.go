package pubsub

import (
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
)

// keptMark is the mark of a version that was taken over from the server before: see scripts/beat.lua.
const keptMark = "="

// patienceWithout is how many heartbeats in a row a master may refuse for want of its replicas before it is left: they are
// often only late.
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

// Server returns the replication id of the server that takes the heartbeats, "" while it is not known. What is read from
// another one is not covered by them.
func (b *Bus) Server() string { return *b.server.Load() }

// Suspect says that a connection has reached another server than Server. The next heartbeat decides for all of them.
func (b *Bus) Suspect() {
	b.doubtServer()
	b.redial()
	b.Kick()
}

func (b *Bus) doubtServer() {
	b.suspect.Store(true)
	b.server.Store(new(string))
}

// follow takes the outcome of a heartbeat, has everybody dial anew where that is needed, and reports whether the server may
// lack writes that an earlier one had.
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
	suspect := b.suspect.Swap(false)
	*h = history{server: s, begun: true}
	b.server.Store(&s.id)
	if another || suspect {
		b.redial()
	}
	return moved
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
		return failing%patienceWithout == 0
	}
	return false
}
