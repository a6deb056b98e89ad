package pubsub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/internal/redisclient"
)

// shardConn is one connection.
type shardConn struct {
	ps       *redis.PubSub
	ctx      context.Context //nolint:containedctx // opens no connection, see subscription
	over     chan struct{}   // closed by close
	closing  sync.Once
	wake     chan struct{}  // has room for one: there are requests
	requests []shardRequest // not sent yet
	open     []shardRequest // sent and not answered, in order
}

func (c *shardConn) requestLocked(r shardRequest) {
	c.requests = append(c.requests, r)
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// close is safe to call twice.
func (c *shardConn) close() {
	c.closing.Do(func() {
		close(c.over)
		_ = c.ps.Close()
	})
}

// receiveLoop keeps a connection while there are parts.
func (s *shard) receiveLoop() {
	var retry backoff
	for s.awaitParts() {
		lasted, err := s.session()
		if s.ctx.Err() != nil {
			return
		}
		if lasted > settled {
			retry.reset()
		}
		if s.away() {
			s.of.logger.Log(slog.LevelWarn, "lost", "tandem: subscription on a node lost, connecting again", "node", s.addr, "reason", err)
		}
		if !sleep(s.ctx, retry.next()) {
			return
		}
	}
}

func (s *shard) awaitParts() bool {
	s.of.mu.Lock()
	arrived := s.arrived
	s.of.mu.Unlock()
	select {
	case <-arrived:
		return s.ctx.Err() == nil
	case <-s.ctx.Done():
		return false
	}
}

// session connects, subscribes and receives until something is wrong with the connection, which it returns with how long that has
// lasted. One that outlives its parts ends for the silence: nobody sends heartbeats then.
func (s *shard) session() (lasted time.Duration, err error) {
	c := &shardConn{
		ps: s.client.Subscribe(s.ctx), ctx: redisclient.WithoutDial(s.ctx), over: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	var writer sync.WaitGroup
	defer writer.Wait()
	defer func() {
		if p := recover(); p != nil { // go-redis asserts the types of what it reads
			err = fmt.Errorf("panic while receiving: %v", p)
		}
		c.close()
		s.lost(err)
	}()
	if err := s.connect(c); err != nil {
		return 0, err
	}
	began := time.Now()
	defer func() { lasted = time.Since(began) }()
	writer.Go(func() { s.writeLoop(c) })
	for {
		m, err := s.receive(c)
		if err == nil {
			err = s.apply(c, m)
		}
		if err != nil {
			return 0, err
		}
	}
}

// connect makes the connection, with the first of the requests.
func (s *shard) connect(c *shardConn) error {
	s.of.mu.Lock()
	if len(s.parts) == 0 {
		s.of.mu.Unlock()
		return errUnused
	}
	for p := range s.parts {
		c.requests = append(c.requests, s.everythingLocked(p))
	}
	first := c.nextLocked()
	s.of.mu.Unlock()

	ctx, cancel := context.WithTimeout(s.ctx, silence(intervalOf(s.of.lastBound.Load())))
	defer cancel()
	if err := c.ps.SSubscribe(ctx, first.names()...); err != nil {
		return err
	}

	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if s.ctx.Err() != nil {
		return ErrClosed
	}
	// What has come since the list was made is to be asked for as well. What has gone is not worth telling: see shardRequest.
	for name, ch := range s.channels {
		if !c.asksFor(name, ch) {
			c.requests = append(c.requests, ch.of.requestLocked(map[string]*shardChannel{name: ch}))
		}
	}
	s.conn, s.failing = c, false
	s.of.sessions++
	if len(c.requests) > 0 {
		c.wake <- struct{}{}
	}
	return nil
}

// asksFor reports whether a request is for this very channel.
func (c *shardConn) asksFor(name string, ch *shardChannel) bool {
	for _, r := range slices.Concat(c.open, c.requests) {
		if r.channels[name] == ch && r.take == ch.of.take {
			return true
		}
	}
	return false
}

// nextLocked moves a request to those that are sent.
func (c *shardConn) nextLocked() shardRequest {
	r := c.requests[0]
	c.requests = c.requests[1:]
	open := r
	open.channels = maps.Clone(r.channels)
	c.open = append(c.open, open)
	return r
}

// writeLoop sends requests until the connection is over.
func (s *shard) writeLoop(c *shardConn) {
	for {
		select {
		case <-c.wake:
		case <-c.over:
			return
		}
		for {
			s.of.mu.Lock()
			if len(c.requests) == 0 {
				s.of.mu.Unlock()
				break
			}
			r := c.nextLocked()
			s.of.mu.Unlock()
			ctx := redisclient.Deadline(c.ctx, time.Now().Add(min(s.of.interval(), s.of.writePatience)))
			ask := c.ps.SSubscribe
			if r.leave {
				ask = c.ps.SUnsubscribe
			}
			if err := ask(ctx, r.names()...); err != nil {
				c.close()
				return
			}
		}
	}
}

// receive waits for the next message. A refusal is one; every other error is the end.
func (s *shard) receive(c *shardConn) (any, error) {
	patience := silence(s.of.interval())
	m, err := c.ps.ReceiveTimeout(redisclient.Deadline(c.ctx, time.Now().Add(patience)), 0)
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return nil, fmt.Errorf("%w for %v", errSilence, patience)
	}
	if refusal, ok := errors.AsType[redis.Error](err); ok {
		return refusal, nil
	}
	return m, err
}

// apply hands a message to whom it is for; an error ends the session.
func (s *shard) apply(c *shardConn, received any) error {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	switch m := received.(type) {
	case *redis.Message:
		s.hearLocked(m)
		return nil
	case *redis.Subscription:
		if m.Kind == "ssubscribe" {
			return s.confirmLocked(c, m.Channel)
		}
		return s.unsubscribedLocked(c, m)
	case redis.Error:
		return s.refusedLocked(c, m)
	default:
		return fmt.Errorf("received a %T", received)
	}
}

func (s *shard) hearLocked(m *redis.Message) {
	ch := s.channels[m.Channel]
	switch {
	case ch == nil: // given up, or lost
	case m.Channel == ch.of.inbox:
		s.hearPrivateLocked(ch.of, m.Payload)
	default:
		handOver(ch.members, m.Payload, func(ask Message) { s.acknowledgeLocked(ch, ask) })
	}
}

// hearPrivateLocked ignores what it cannot read: nothing on a private channel is an invalidation.
func (s *shard) hearPrivateLocked(p *part, payload string) {
	m, err := Parse(payload)
	if err != nil {
		return
	}
	switch m.Op {
	case Beat:
		if at, _, ok := s.sent.find(m.Token); ok {
			s.heardLocked(at)
		}
	case Wake:
		if ch := p.topics[m.Channel]; ch != nil {
			for _, member := range ch.members {
				member.Handler.Message(m)
			}
		}
	case Ack:
		s.of.questions.acknowledged(m.Token, m.Sender)
	case Invalidate, Tags, All, Ask:
	}
}

// acknowledgeLocked is Bus.acknowledge. Outside a session something may have been published on another node.
func (s *shard) acknowledgeLocked(ch *shardChannel, ask Message) {
	switch {
	case !ch.begun:
	case ask.Sender == s.of.id:
		s.of.questions.acknowledged(ask.Token, s.of.id)
	default:
		s.acks.add(ch.of.ackOf(ask))
	}
}

// confirmLocked takes the confirmation of a channel.
func (s *shard) confirmLocked(c *shardConn, name string) error {
	r, ok := c.answeredLocked(name, false)
	if !ok {
		return fmt.Errorf("unexpected ssubscribe of %s", name)
	}
	ch := s.channels[name]
	if ch == nil || ch != r.channels[name] || ch.of.take != r.take {
		return nil
	}
	if ch.subscribed {
		return fmt.Errorf("second ssubscribe of %s", name)
	}
	ch.subscribed, ch.of.refused = true, nil
	ch.beginLocked()
	s.beatSoon()
	return nil
}

// unsubscribedLocked takes the end of a channel. One that was not asked for says that the node gives up the slot, with all of its
// channels. It is no news of one that is not confirmed yet: that was asked for later.
func (s *shard) unsubscribedLocked(c *shardConn, m *redis.Subscription) error {
	if m.Kind != "sunsubscribe" {
		return fmt.Errorf("unexpected %s of %s", m.Kind, m.Channel)
	}
	if _, ok := c.answeredLocked(m.Channel, true); ok {
		return nil
	}
	if ch := s.channels[m.Channel]; ch != nil && ch.subscribed {
		s.loseLocked(ch.of, errGivenUp)
	}
	return nil
}

// answeredLocked returns the oldest request, with this channel alone, if this is an answer to it.
func (c *shardConn) answeredLocked(name string, leave bool) (shardRequest, bool) {
	if len(c.open) == 0 || c.open[0].leave != leave {
		return shardRequest{}, false
	}
	r := c.open[0]
	ch, ok := r.channels[name]
	if !ok {
		return shardRequest{}, false
	}
	delete(r.channels, name)
	if len(r.channels) == 0 {
		c.open = c.open[1:]
	}
	r.channels = map[string]*shardChannel{name: ch}
	return r, true
}

// refusedLocked takes the refusal of the oldest request.
func (s *shard) refusedLocked(c *shardConn, refusal error) error {
	if len(c.open) == 0 {
		return refusal
	}
	r := c.open[0]
	c.open = c.open[1:]
	if !r.leave && r.take == r.of.take {
		refusal = Explain(refusal)
		if errors.Is(refusal, ErrNoPermission) || errors.Is(refusal, ErrUnsupportedServer) {
			r.of.refused = refusal
		}
		s.loseLocked(r.of, fmt.Errorf("%w: %w", errRefusedSlot, refusal))
	}
	return nil
}

// lost ends the sessions of all parts, which stay the shard's until another node has them. A node without parts has not failed:
// nobody misses its connection.
func (s *shard) lost(reason error) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	hadOne := s.conn != nil
	s.conn, s.failing = nil, len(s.parts) > 0 && !errors.Is(reason, errUnused)
	for _, ch := range s.channels {
		ch.endLocked(reason)
		ch.subscribed = false
	}
	for p := range s.parts {
		p.taken = mono.Never
	}
	if hadOne && len(s.parts) > 0 {
		s.of.searchSoon()
	}
}
