package pubsub

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/quiet"
)

const (
	// patienceWith is how many heartbeats in a row a server may answer with an error (it is busy, loading, without its replicas)
	// before it is left, in case that another one has taken its place. If none has by then, twice as many, and so on.
	patienceWith = 3
	// maxPatience times as many are the most: another one may take its place after hours as well. That is about twenty seconds, as a
	// heartbeat that fails is followed by the next one within a second.
	maxPatience = 16
)

// origin is whom a heartbeat has reached.
type origin struct {
	id     string // its replication id, "" if it does not tell
	run    string // its run id, which is its process'
	offset int64  // how far its stream of writes had come
	node   string // its address in a cluster
}

// history is what is remembered of the heartbeats before: of a server, and of each partition of a cluster.
type history struct {
	server  origin // of the last one that succeeded
	sent    int64  // when that was sent, by mono
	begun   bool   // one has succeeded
	failing int    // how many have failed since
	strayed bool   // a connection has led to another server since, and may have been written to
}

// follow takes a heartbeat that has succeeded. It reports whether the server may lack writes that another one had confirmed, and
// whether connections may lead to another one.
func (h *history) follow(sent int64, s origin, same bool) (moved, leaving bool) {
	another := (s.id != h.server.id && !same) || s.node != h.server.node
	moved = h.begun && (another || h.strayed || (s.id == "" && h.failing > 0))
	leaving = h.strayed || (h.begun && another)
	*h = history{server: s, sent: sent, begun: true}
	return moved, leaving
}

// berth is one address, with the server that heartbeats have found there and where connections have led.
type berth struct {
	life   context.Context //nolint:containedctx // the bus', or a part of it
	logger *quiet.Logger
	redial func() // closes every connection
	again  func() // asks for a heartbeat

	whereabouts whereabouts
	history     history // beatLoop's
}

// reached is Bus.Reached.
func (b *berth) reached(id string) bool {
	if b.whereabouts.reached(id) {
		return true
	}
	b.logger.Log(slog.LevelWarn, "other server", "tandem: connections lead to different Redis servers, dialling all of them anew")
	b.leaveServer()
	return false
}

func (b *berth) leaveServer() {
	b.whereabouts.doubt()
	b.redial()
}

// follow takes the outcome of a heartbeat, has everybody dial anew where that is needed, and reports whether the server may
// lack writes that another one had confirmed. Nobody knows the server then, until settleAround says it.
func (b *berth) follow(sent int64, s origin, same bool, err error) (moved bool) {
	h := &b.history
	if err != nil {
		h.failing++
		if b.life.Err() == nil && leave(err, h.failing) {
			b.noteStrays()
			b.leaveServer()
		}
		return false
	}
	h.strayed = h.strayed || b.whereabouts.strayed(s.id)
	moved, leaving := h.follow(sent, s, same)
	if leaving {
		b.leaveServer()
	}
	return moved
}

// noteStrays keeps what doubt forgets: that some connections led to another server than the last good heartbeat's.
func (b *berth) noteStrays() {
	if b.history.begun && b.whereabouts.strayed(b.history.server.id) {
		b.history.strayed = true
	}
}

// settle says that the server of a heartbeat that succeeded is the one. A connection that was made meanwhile may have led
// elsewhere; what was written there is to be repeated, so the next heartbeat counts as one on a server that has moved.
func (b *berth) settle(id string) {
	if !b.whereabouts.settle(id) {
		b.stray()
	}
}

// settleAround calls tell, which tells the members of a heartbeat that succeeded, and says that its server is the one.
//
// It says so first where nothing has moved. A member that is told, the first time or after heartbeats that failed, may read at
// once, and on a connection of its own, which is refused while nobody knows the server.
//
// It says so last where something has. A read that began on the word of the heartbeat before must not be let onto the new server,
// which may have what was invalidated, before it can see that there is a new one:
//
//  1. a Get believes the heartbeat before, and is about to dial;
//  2. a heartbeat finds that another server has taken over;
//  3. the Get reads there, and looks whether one has taken over since 1. The member has not been told: none has.
func (b *berth) settleAround(id string, moved bool, tell func()) {
	if moved {
		tell()
		b.settle(id)
		return
	}
	b.settle(id)
	tell()
}

// stray is for connections that may have led to different servers.
func (b *berth) stray() {
	b.history.strayed = true
	b.leaveServer()
	b.again()
}

// Server returns the replication id of the server that takes the heartbeats, "" if it does not tell; not known means that
// the next heartbeat decides. What is read from another server is not covered by them.
func (b *Bus) Server() (id string, known bool) { return b.whereabouts.get() }

// Reached says to which server a new connection leads, and returns whether it is the heartbeat's or that is not known. If
// it is another one, the next heartbeat decides for all of them. It comes when it is due, or when the subscription is back,
// which backs off: behind an address that leads to several masters in turn, hurrying would not end.
func (b *Bus) Reached(id string) bool { return b.berth.reached(id) }

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
	return failing%patienceWith == 0 && (n&(n-1) == 0 || n%maxPatience == 0)
}
