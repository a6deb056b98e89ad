package pubsub

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/internal/script"
)

// A heartbeat is a pipeline to the node: in the slot of each partition a script that writes, and at last a token on the private
// channel of one of them, the anchor. Two things have to be seen for a partition, and its proof is the earlier of their times:
//
//   - taken: the node has executed the write in this very slot. Where a slot is being migrated, was given away, or the node has
//     been replaced or is cut off, it refuses; and invalidations may be published elsewhere. A write in another of its slots
//     would say nothing of that, and SPUBLISH is accepted by a node that has been replaced.
//   - heard: the token has come back on the connection, after which everything has that the node published before.
//
// They need not be of the same heartbeat. A node that has the slot when it takes a write, and had it when the subscription was
// confirmed, and has not said in between that it gives it up, had it in between.
//
// The script compares as well what the partition's version keys and registries hold. Where they are not as expected, and for all
// partitions where the node is not the server that it was, beat.lua follows in a second pipeline, for each in its own slot.

// pulse is a heartbeat's part in one partition.
type pulse struct {
	of         *part
	take       uint64 // the part's
	members    []*member
	registries []string
	history    history
	expectations
	steady bool // nothing new is expected

	reply beatReply
	err   error
	done  bool // there is one or the other
}

func (p *pulse) end(err error) { p.err, p.done = err, true }

// beatLoop sends one heartbeat after the other.
func (s *shard) beatLoop() {
	var retry backoff
	for s.awaitParts() {
		interval := s.of.interval()
		wait := interval - interval/10 + rand.N(interval/5+1)
		if s.beat(allowance(interval)) {
			retry.reset()
		} else {
			wait = min(wait, retry.next())
		}
		s.rest(wait)
	}
}

// rest waits until the next heartbeat is due or asked for. None is asked for sooner of a node that is away: each would connect to
// it. When it is back the first confirmation asks for one.
func (s *shard) rest(wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-s.kick:
			if s.away() {
				continue
			}
		case <-timer.C:
		case <-s.ctx.Done():
		}
		return
	}
}

// away reports whether the last attempt to connect has failed, or the last connection.
func (s *shard) away() bool {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	return s.failing
}

// beat sends a heartbeat, and reports its outcome to the members of each part. False means that another one should follow soon.
func (s *shard) beat(wait time.Duration) bool {
	<-s.beating
	defer func() { s.beating <- struct{}{} }()
	pulses, joined := s.list()
	if len(pulses) == 0 {
		return true
	}
	b := heartbeat{of: s, token: newID(16), sent: mono.Now(), joined: joined, pulses: pulses}
	s.sent.add(b.token, b.sent, joined)
	ctx, cancel := context.WithTimeout(s.ctx, wait)
	defer cancel()
	b.expectNothing(ctx)
	b.findOut(ctx)
	return s.conclude(b, mono.Now())
}

// list returns the parts that the node has, in an order.
func (s *shard) list() (pulses []*pulse, joined uint64) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	node := &s.berth.history
	for _, p := range s.of.parts {
		if p.on != s {
			continue
		}
		x := &pulse{of: p, take: p.take, history: p.history}
		for _, ch := range p.topics {
			x.members = append(x.members, ch.members...)
		}
		x.registries = registriesOf(x.members)
		x.expectations, x.steady = p.expects(&p.history, x.members, x.registries)
		x.steady = x.steady && node.failing == 0 && !node.strayed && !s.tellsOtherwise &&
			p.history.server.id == node.server.id && p.history.server.node == s.addr
		pulses = append(pulses, x)
	}
	return pulses, s.of.joins
}

// heartbeat is one on its way.
type heartbeat struct {
	of     *shard
	token  string
	sent   int64
	joined uint64
	pulses []*pulse
	server origin // as the last of its scripts has found it
}

// where returns the pulses of which f is true.
func (b *heartbeat) where(f func(*pulse) bool) []*pulse {
	return slices.DeleteFunc(slices.Clone(b.pulses), func(p *pulse) bool { return !f(p) })
}

// run sends scripts in one pipeline.
func (b *heartbeat) run(ctx context.Context, scripts []script.Script, calls []script.Call) []*redis.Cmd {
	var sent atomic.Uint64
	return script.RunEach(ctx, &sent, b.of.client, scripts, calls)
}

// expectNothing sends the heartbeat for those partitions of which nothing new is expected. What is not done then is to be found
// out.
func (b *heartbeat) expectNothing(ctx context.Context) {
	steady := b.where(func(p *pulse) bool { return p.steady })
	if len(steady) == 0 {
		return
	}
	anchor := b.of.anchor(steady)
	var scripts []script.Script
	var calls []script.Call
	for _, p := range steady {
		scripts = append(scripts, sharded.same)
		calls = append(calls, script.Call{Keys: p.of.keys(p.members, p.registries), Args: p.args(p.of.id, len(p.members))})
	}
	cmds := b.run(ctx, append(scripts, sharded.steady), append(calls, b.anchorCall(anchor)))
	var same []*pulse
	for i, p := range steady {
		switch n, err := cmds[i].Int(); {
		case err != nil:
			p.end(err)
		case n == 1:
			same = append(same, p)
		}
	}
	answer, err := cmds[len(steady)].Text()
	same, answer, err = b.otherAnchor(ctx, anchor, same, answer, err)
	for _, p := range same {
		b.expected(p, answer, err)
	}
}

// otherAnchor has the token come back in another partition where the anchor's slot alone is refused: one is as good as another. It
// returns those partitions that are left, and the answer.
func (b *heartbeat) otherAnchor(ctx context.Context, anchor *pulse, same []*pulse, answer string, err error) (left []*pulse, _ string, _ error) {
	for isElsewhere(err) || isNobodys(err) {
		if i := slices.Index(same, anchor); i >= 0 { // it was not refused when it was looked at
			anchor.end(err)
			same = slices.Delete(same, i, i+1)
		}
		if len(same) == 0 {
			break
		}
		anchor = same[0]
		answer, err = b.run(ctx, []script.Script{sharded.steady}, []script.Call{b.anchorCall(anchor)})[0].Text()
	}
	return same, answer, err
}

func (b *heartbeat) anchorCall(p *pulse) script.Call {
	return script.Call{Keys: []string{p.of.probe}, Args: []any{
		p.of.inbox, Message{Op: Beat, Token: b.token}.Encode(), sameServer(b.of.berth.history.server.id), 1,
	}}
}

// expected is for a partition where everything is as expected, if the node is the server that it was: so the anchor's answer says.
func (b *heartbeat) expected(p *pulse, answer string, err error) {
	if err != nil {
		p.end(err)
		return
	}
	if answer == "" {
		return
	}
	now, offset, ok := parseSteady(answer)
	if !ok {
		b.of.tellsOtherwise = true
		return
	}
	b.server = b.of.berth.history.server
	b.server.offset = offset
	p.reply = beatReply{now: now, server: b.server, stored: p.stored}
	p.err, p.done = p.reply.parseVersions(), true
}

// findOut sends the heartbeat for the partitions that are not done.
func (b *heartbeat) findOut(ctx context.Context) {
	rest := b.where(func(p *pulse) bool { return !p.done })
	word := newID(8)
	var scripts []script.Script
	var calls []script.Call
	for _, p := range rest {
		since := time.Duration(b.sent - p.history.sent).Milliseconds()
		scripts = append(scripts, sharded.beat)
		calls = append(calls, p.of.full(&p.history, p.members, p.registries, b.token, word, since))
	}
	for i, cmd := range b.run(ctx, scripts, calls) {
		p := rest[i]
		p.steady = false
		raw, err := cmd.Slice()
		if err == nil {
			p.reply, err = parseBeat(raw, len(p.members), p.registries)
		}
		p.end(err)
		if err != nil {
			continue
		}
		p.reply.word = word
		p.reply.server.node = b.of.addr
		b.server = p.reply.server
	}
}

// anchor returns the partition that the token is to come back in: one whose private channel is subscribed to, if there is one.
func (s *shard) anchor(pulses []*pulse) *pulse {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	for _, p := range pulses {
		if ch := s.channels[p.of.inbox]; ch != nil && ch.subscribed {
			return p
		}
	}
	return pulses[0]
}

// conclude draws the conclusions from a heartbeat, first of the node and then of each partition, and reports its outcome. False means
// that another one should follow soon.
func (s *shard) conclude(b heartbeat, received int64) bool {
	good, mixed, err := b.outcome()
	moved := false
	if good || err != nil {
		if good && (s.berth.history.strayed || s.whereabouts.strayed(b.server.id)) {
			s.strayed()
		}
		moved = s.follow(b.sent, b.server, b.sameServer(), err)
	}
	if good && !mixed {
		s.settleAround(b.server.id, moved || s.moves(b), func() { s.tell(b, received) })
		return true
	}
	s.tell(b, received)
	if mixed {
		s.stray()
	}
	return good
}

// outcome says what a heartbeat is to the node. That it does not have a slot says nothing of it.
func (b *heartbeat) outcome() (good, mixed bool, err error) {
	for _, p := range b.pulses {
		switch {
		case p.err == nil:
			good = true
			mixed = mixed || p.reply.server.id != b.server.id
		case err == nil && !isElsewhere(p.err):
			err = p.err
		}
	}
	if good {
		err = nil
	}
	return good, mixed, err
}

// sameServer reports whether the node's server has a new replication id and is the process that it was.
func (b *heartbeat) sameServer() bool {
	return slices.ContainsFunc(b.pulses, func(p *pulse) bool {
		return p.err == nil && p.reply.same && p.history.server.id == b.of.berth.history.server.id
	})
}

// strayed is for partitions of which something may have been written to another server than the node's.
func (s *shard) strayed() {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	for _, p := range s.of.parts {
		if p.history.server.node == s.addr {
			p.history.strayed = true
		}
	}
}

// isElsewhere reports whether an error says that a slot is another node's, or on its way there.
func isElsewhere(err error) bool {
	for _, prefix := range []string{"MOVED ", "ASK ", "TRYAGAIN "} {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return false
}

// isNobodys reports whether an error says that no node has a slot. The rest of CLUSTERDOWN is said of every slot.
func isNobodys(err error) bool { return redis.HasErrorPrefix(err, "CLUSTERDOWN Hash slot not served") }

// moves reports whether a partition may lack writes that another server had confirmed: tell will say so.
func (s *shard) moves(b heartbeat) bool {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	return slices.ContainsFunc(b.pulses, func(x *pulse) bool {
		if x.err != nil {
			return false
		}
		h := x.of.history // a copy, to ask
		moved, _ := h.follow(b.sent, x.reply.server, x.reply.same)
		return moved
	})
}

// tell reports a heartbeat's outcome.
func (s *shard) tell(b heartbeat, received int64) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	for _, x := range b.pulses {
		if p := x.of; p.on == s && p.take == x.take {
			report := BeatReport{Err: Explain(x.err), Node: s.addr, Sent: b.sent, Received: received}
			if report.Err == nil {
				report.Err = p.refused
			}
			p.tellLocked(x, report, b.joined)
		}
	}
}

// tellLocked reports to the members of a partition that the node still has.
func (p *part) tellLocked(x *pulse, report BeatReport, joined uint64) {
	if report.Err == nil {
		report.RedisNow = x.reply.now
		report.Moved, _ = p.history.follow(report.Sent, x.reply.server, x.reply.same)
		if !x.steady {
			p.steady.learn(x.members, x.reply.stored)
		}
	} else {
		p.history.failing++
	}
	p.registers.note(x.reply, report)
	tellEach(x.members, report, x.reply.versions)
	switch {
	case report.Err == nil:
		p.takenLocked(report.Sent, joined)
	case redis.HasErrorPrefix(x.err, "MOVED "):
		p.on.loseLocked(p, report.Err)
	case isElsewhere(x.err), redis.HasErrorPrefix(x.err, "CLUSTERDOWN "):
		p.dozeLocked(report.Err)
	}
}

// takenLocked says that the node has taken a write in the slot.
func (p *part) takenLocked(sent int64, joined uint64) {
	p.taken, p.joined = sent, joined
	for _, ch := range p.topics {
		if ch.subscribed && !ch.begun {
			ch.beginLocked()
		}
		ch.proveLocked()
	}
}

// dozeLocked ends the sessions until the node takes writes in the slot again, with the channels subscribed. It is not enough that
// there is no proof meanwhile:
//
//  1. an entry is read, in the session, and its slot is opened to be migrated;
//  2. the entry goes to the other node, where it is invalidated; nobody is subscribed there;
//  3. the migration is aborted, and the slot stays;
//  4. the next heartbeat would vouch for what was read at 1.
func (p *part) dozeLocked(reason error) {
	for _, ch := range p.topics {
		ch.endLocked(reason)
	}
}

// heardLocked says that a heartbeat has come back that was sent at that time.
func (s *shard) heardLocked(at int64) {
	for _, ch := range s.channels {
		if ch.begun {
			ch.heard = max(ch.heard, at)
			ch.proveLocked()
		}
	}
}

// proveLocked tells the members of what is proven.
func (ch *shardChannel) proveLocked() {
	at := min(ch.heard, ch.of.taken)
	if !ch.begun || at <= ch.proved {
		return
	}
	ch.proved = at
	for _, m := range ch.members {
		if provenBy(ch.of.joined, m) {
			m.Handler.Prove(at)
		}
	}
}
