package pubsub

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tandemcache/tandem/internal/mono"
)

// beatLoop sends one heartbeat after the other until Close. There is never more than one on its way, so their reports are
// in the order in which Redis ran them.
func (b *Bus) beatLoop() {
	defer b.done.Done()
	var retry backoff
	for b.ctx.Err() == nil {
		interval := b.interval()
		wait := interval - interval/10 + rand.N(interval/5+1)
		if b.beat(interval*silentBeats) == nil {
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
func (b *Bus) beat(patience time.Duration) error {
	members := b.members()
	keys := make([]string, 1, 1+len(members))
	keys[0] = b.probe
	ttl := time.Duration(0)
	for _, m := range members {
		keys = append(keys, m.VersionKey)
		ttl = max(ttl, m.VersionTTL)
	}
	token := newID(16)
	report := BeatReport{Sent: mono.Now()}
	b.sent.add(token, report.Sent)
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	reply, err := beatScript.Run(ctx, b.client, keys,
		b.inbox, Message{Op: Beat, Token: token}.Encode(), newID(8), ttl.Milliseconds()).Slice()
	report.Received = mono.Now()
	if err == nil && len(reply) != len(keys) {
		err = fmt.Errorf("beat.lua answered %d values, want %d", len(reply), len(keys))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, m := range members {
		if m.left {
			continue
		}
		r := report
		if r.Err = err; err == nil {
			r.RedisNow, r.Version, r.Err = parseBeat(reply[0], reply[i+1])
		}
		m.Handler.Beat(r)
	}
	return err
}

func parseBeat(now, version any) (int64, string, error) {
	ms, ok := now.(int64)
	text, okVersion := version.(string)
	if !ok || !okVersion {
		return 0, "", fmt.Errorf("beat.lua answered %T and %T", now, version)
	}
	return ms, text, nil
}

func (b *Bus) members() []*member {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []*member
	for _, c := range b.channels {
		out = append(out, c.members...)
	}
	return out
}

// sentBeats remembers when the last heartbeats were sent. The token is what makes a heartbeat's return a proof: it cannot
// be guessed, so a stray message on the private channel proves nothing.
type sentBeats struct {
	mu   sync.Mutex
	last [8]struct {
		token string
		at    int64
	}
	next int
}

func (s *sentBeats) add(token string, at int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last[s.next].token, s.last[s.next].at = token, at
	s.next = (s.next + 1) % len(s.last)
}

func (s *sentBeats) find(token string) (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, beat := range s.last {
		if beat.token == token && token != "" {
			return beat.at, true
		}
	}
	return 0, false
}
