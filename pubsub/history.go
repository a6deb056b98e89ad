package pubsub

import (
	"errors"
	"log/slog"
	"strings"

	"github.com/redis/go-redis/v9"
)

// patienceWith is how many heartbeats in a row a server may answer with an error (it is busy, loading, without its replicas)
// before it is left, in case that another one has taken its place. If none has by then, twice as many, and so on.
const patienceWith = 3

// origin is whom a heartbeat has reached.
type origin struct {
	id     string // its replication id, "" if it does not tell
	run    string // its run id, which is its process'
	offset int64  // how far its stream of writes had come
}

// history is what beatLoop remembers of the heartbeats before.
type history struct {
	server  origin // of the last one that succeeded
	sent    int64  // when that was sent, by mono
	begun   bool   // one has succeeded
	failing int    // how many have failed since
	strayed bool   // a connection has led to another server since, and may have been written to
}

// Server returns the replication id of the server that takes the heartbeats, "" if it does not tell; not known means that
// the next heartbeat decides. What is read from another server is not covered by them.
func (b *Bus) Server() (id string, known bool) { return b.whereabouts.get() }

// Reached says to which server a new connection leads, and returns whether it is the heartbeat's or that is not known. If
// it is another one, the next heartbeat decides for all of them. It comes when it is due, or when the subscription is back,
// which backs off: behind an address that leads to several masters in turn, hurrying would not end.
func (b *Bus) Reached(id string) bool {
	if b.whereabouts.reached(id) {
		return true
	}
	b.logger.Log(slog.LevelWarn, "other server", "tandem: connections lead to different Redis servers, dialling all of them anew")
	b.leaveServer()
	return false
}

func (b *Bus) leaveServer() {
	b.whereabouts.doubt()
	b.redial()
}

// follow takes the outcome of a heartbeat, has everybody dial anew where that is needed, and reports whether the server may
// lack writes that another one had confirmed. Nobody knows the server then: not before the members know that it has moved
// may connections to the new one be used, which is what settle says.
func (b *Bus) follow(sent int64, s origin, same bool, err error) (moved bool) {
	h := &b.history
	if err != nil {
		h.failing++
		if b.ctx.Err() == nil && leave(err, h.failing) {
			b.noteStrays()
			b.leaveServer()
		}
		return false
	}
	another := s.id != h.server.id && !same
	strayed := h.strayed || b.whereabouts.strayed(s.id)
	moved = h.begun && (another || strayed || (s.id == "" && h.failing > 0))
	leaving := strayed || (h.begun && another)
	*h = history{server: s, sent: sent, begun: true}
	if leaving {
		b.leaveServer()
	}
	return moved
}

// noteStrays keeps what doubt forgets: that some connections led to another server than the last good heartbeat's.
func (b *Bus) noteStrays() {
	if b.history.begun && b.whereabouts.strayed(b.history.server.id) {
		b.history.strayed = true
	}
}

// settle says that the server of a heartbeat that succeeded is the one. A connection that was made meanwhile may have led
// elsewhere; what was written there is to be repeated, so the next heartbeat counts as one on a server that has moved.
func (b *Bus) settle(id string) {
	if !b.whereabouts.settle(id) {
		b.history.strayed = true
		b.leaveServer()
		b.Kick()
	}
}

// leave reports whether a heartbeat's failure is a reason to dial anew.
func leave(err error, failing int) bool {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return true
	}
	// Older servers put the error of a command in a script behind words of their own.
	text := reply.Error()
	if strings.Contains(text, "READONLY ") || strings.Contains(text, "MASTERDOWN ") {
		return true
	}
	n := failing / patienceWith
	return failing%patienceWith == 0 && n&(n-1) == 0
}
