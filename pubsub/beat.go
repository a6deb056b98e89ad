package pubsub

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tandemcache/tandem/internal/mono"
)

// beatLoop sends one heartbeat after the other until Close. There is never more than one on its way, so their reports are
// in the order in which Redis ran them.
func (b *Bus) beatLoop() {
	var retry backoff
	for b.ctx.Err() == nil {
		interval := b.interval()
		wait := interval - interval/10 + rand.N(interval/5+1)
		if b.beat(allowance(interval)) == nil {
			retry.reset()
		} else {
			wait = min(wait, retry.next())
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-b.kick:
		case <-b.ctx.Done():
		}
		timer.Stop()
	}
}

// beat sends a heartbeat, waits for the reply, and reports it to every member.
//
// Connections are closed before the report: a member that believes the report must not read from the server before.
func (b *Bus) beat(wait time.Duration) error {
	<-b.beating
	defer func() { b.beating <- struct{}{} }()
	members, joined := b.members()
	token := newID(16)
	report := BeatReport{Sent: mono.Now()}
	since := time.Duration(report.Sent - b.history.sent).Milliseconds()
	b.sent.add(token, report.Sent, joined)
	ctx, cancel := context.WithTimeout(b.ctx, wait)
	defer cancel()
	reply, found, err := b.steadyBeat(ctx, members, token)
	if err == nil && !found {
		reply, err = b.fullBeat(ctx, members, token, since)
	}
	report.Received = mono.Now()
	report.Err, report.RedisNow = explainPermission(err), reply.now
	report.Moved = b.follow(report.Sent, reply.server, reply.same, err)
	b.registers.note(reply, report)
	tell := func() { b.tell(members, report, reply.versions) }
	if err != nil {
		tell()
		return err
	}
	b.settleAround(reply.server.id, report.Moved, tell)
	return nil
}

// fullBeat sends a heartbeat by beat.lua, which finds out everything.
func (b *Bus) fullBeat(ctx context.Context, members []*member, token string, since int64) (beatReply, error) {
	b.steady.forget()
	registries := registriesOf(members)
	word := newID(8)
	call := b.full(&b.history, members, registries, token, word, since)
	raw, err := b.scripts.beat.Run(ctx, b.client, call.Keys, call.Args...).Slice()
	if err != nil {
		return beatReply{}, err
	}
	reply, err := parseBeat(raw, len(members), registries)
	reply.word = word
	if err == nil {
		b.steady.learn(members, reply.stored)
	}
	return reply, err
}

func (b *Bus) tell(members []*member, report BeatReport, versions []version) {
	b.mu.Lock()
	defer b.mu.Unlock()
	tellEach(members, report, versions)
}

// tellEach reports to the members that have not left, each with its version. The bus' lock is held.
func tellEach(members []*member, report BeatReport, versions []version) {
	for i, m := range members {
		if m.left {
			continue
		}
		r := report
		if r.Err == nil {
			r.Version, r.Kept, r.KeptFor = versions[i].text, versions[i].kept >= 0, max(versions[i].kept, 0)
		}
		m.Handler.Beat(r)
	}
}

// beatReply is what a heartbeat has found.
type beatReply struct {
	now      int64
	server   origin
	same     bool     // the process is the one of the heartbeat before, though its replication id is new
	stored   []string // what the version keys hold
	versions []version
	// entered are the registries into which the heartbeat has written word, as the instance was not there.
	entered []string
	word    string
}

type version struct {
	text string
	kept time.Duration // how long ago it was taken over, negative if it was not
}

const (
	// beatHead is how many values come before what the version keys hold.
	beatHead = 5
	// versionLen is the length of a version.
	versionLen = 16
)

func parseBeat(raw []any, members int, registries []string) (beatReply, error) {
	if want := beatHead + members + len(registries); len(raw) != want {
		return beatReply{}, fmt.Errorf("beat.lua answered %d values, want %d", len(raw), want)
	}
	now, okNow := raw[0].(int64)
	id, okID := raw[1].(string)
	offset, okOffset := raw[2].(int64)
	run, okRun := raw[3].(string)
	same, okSame := raw[4].(int64)
	if !okNow || !okID || !okOffset || !okRun || !okSame {
		return beatReply{}, fmt.Errorf("beat.lua answered %T, %T, %T, %T and %T", raw[0], raw[1], raw[2], raw[3], raw[4])
	}
	reply := beatReply{now: now, server: origin{id: id, offset: offset, run: run}, same: same == 1}
	for i, key := range registries {
		there, ok := raw[beatHead+members+i].(int64)
		if !ok {
			return beatReply{}, fmt.Errorf("beat.lua answered %T for a registry", raw[beatHead+members+i])
		}
		if there == 0 {
			reply.entered = append(reply.entered, key)
		}
	}
	for _, one := range raw[beatHead : beatHead+members] {
		stored, ok := one.(string)
		if !ok {
			return beatReply{}, fmt.Errorf("beat.lua answered %T for a version", one)
		}
		reply.stored = append(reply.stored, stored)
	}
	return reply, reply.parseVersions()
}

// parseVersions reads what the version keys hold: see beat.lua.
func (r *beatReply) parseVersions() error {
	for _, stored := range r.stored {
		text, note, _ := strings.Cut(stored, ":")
		v := version{text: text, kept: -1}
		mark := strings.IndexAny(note, "+=")
		if len(text) != versionLen || mark < 0 {
			return fmt.Errorf("beat.lua answered %.64q for a version", stored)
		}
		if note[mark] == '=' {
			made, _ := strconv.ParseInt(note[mark+1:], 10, 64) // 0 where it tells none
			v.kept = time.Duration(max(r.now-made, 0)) * time.Millisecond
		}
		r.versions = append(r.versions, v)
	}
	return nil
}

// members returns those of now, and how many had joined by now.
func (b *Bus) members() (all []*member, joined uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.channels {
		all = append(all, c.members...)
	}
	return all, b.joins
}

// sentBeats remembers when the last heartbeats were sent. The token is what makes a heartbeat's return a proof: it cannot
// be guessed, so a stray message on the private channel proves nothing.
type sentBeats struct {
	mu   sync.Mutex
	last [8]struct {
		token  string
		at     int64
		joined uint64
	}
	next int
}

func (s *sentBeats) add(token string, at int64, joined uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last[s.next].token, s.last[s.next].at, s.last[s.next].joined = token, at, joined
	s.next = (s.next + 1) % len(s.last)
}

func (s *sentBeats) find(token string) (at int64, joined uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, beat := range s.last {
		if beat.token == token && token != "" {
			return beat.at, beat.joined, true
		}
	}
	return 0, 0, false
}
