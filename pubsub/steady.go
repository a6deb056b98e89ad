package pubsub

import (
	"context"
	_ "embed" // the scripts
	"strconv"
	"strings"
	"time"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/internal/script"
)

var (
	//go:embed scripts/steady.lua
	steadySource string
	steadyScript = script.New(steadySource)
	//go:embed scripts/same.lua
	sameSource string
	sameScript = script.New(sameSource)
)

const (
	// maxSteady is how long heartbeats leave the versions' TTLs alone.
	maxSteady = time.Minute
	// maxStored bounds what is sent back to be compared: several times what beat.lua writes.
	maxStored = 256
)

// steady is what the next heartbeat may expect to find: what the one before it found. Then it costs the server half as much,
// and with hundreds of instances heartbeats are what an idle server does. It is beatLoop's.
type steady struct {
	stored map[*member]string // what the version keys hold
	until  int64              // by mono: when the TTLs are due
	never  bool               // the server's INFO is not laid out as steady.lua reads it
}

// learn takes what beat.lua has found.
func (s *steady) learn(members []*member, stored []string) {
	s.stored = make(map[*member]string, len(members))
	pause := maxSteady
	for i, m := range members {
		if len(stored[i]) > maxStored {
			s.forget()
			return
		}
		s.stored[m] = stored[i]
		pause = min(pause, m.VersionTTL/4)
	}
	s.until = mono.Now() + int64(pause)
}

func (s *steady) forget() { s.stored = nil }

// expects returns what the members' version keys are to hold; false means that the next heartbeat has to find out.
func (s *steady) expects(members []*member) ([]string, bool) {
	if s.never || s.stored == nil || mono.Now() >= s.until {
		return nil, false
	}
	out := make([]string, len(members))
	for i, m := range members {
		stored, ok := s.stored[m]
		if !ok {
			return nil, false
		}
		out[i] = stored
	}
	return out, true
}

// steadyBeat sends a heartbeat that expects nothing new. Not found means that it has to be sent again, by beat.lua: with the
// same token, as what this one may have published was no later.
func (b *Bus) steadyBeat(ctx context.Context, members []*member, token string) (reply beatReply, found bool, err error) {
	registries := registriesOf(members)
	e, ok := b.expects(&b.history, members, registries)
	if !ok {
		return reply, false, nil
	}
	args := e.args(b.id, b.inbox, Message{Op: Beat, Token: token}.Encode(), sameServer(b.history.server.id), 1+len(members))
	answer, err := b.scripts.steady.Run(ctx, b.client, b.keys(members, registries), args...).Text()
	if err != nil || answer == "" {
		return reply, false, err
	}
	now, offset, ok := parseSteady(answer)
	if !ok {
		b.steady.never = true
		return reply, false, nil
	}
	reply = beatReply{now: now, server: b.history.server, stored: e.stored}
	reply.server.offset = offset
	err = reply.parseVersions()
	return reply, err == nil, err
}

// sameServer is what INFO replication of the server with this id contains.
func sameServer(id string) string { return "master_replid:" + id + "\r" }

// parseSteady reads the answer of steady.lua.
func parseSteady(answer string) (now, offset int64, ok bool) {
	clock, info, _ := strings.Cut(answer, "\n")
	seconds, micros, _ := strings.Cut(clock, " ")
	s, errSeconds := strconv.ParseInt(seconds, 10, 64)
	us, errMicros := strconv.ParseInt(micros, 10, 64)
	_, info, found := strings.Cut(info, "master_repl_offset:")
	text, _, whole := strings.Cut(info, "\r")
	offset, errOffset := strconv.ParseInt(text, 10, 64)
	if errSeconds != nil || errMicros != nil || errOffset != nil || !found || !whole {
		return 0, 0, false
	}
	return s*1000 + us/1000, offset, true
}
