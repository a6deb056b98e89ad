package pubsub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/redisclient"
)

// errSilence is why a session ends on which nothing arrives, not even the bus' own heartbeats.
var errSilence = errors.New("silence on the subscription")

// writePatience bounds a write to a peer that has stopped reading; closing the connection waits for it.
const writePatience = 250 * time.Millisecond

// subscription is one connection.
type subscription struct {
	bus *Bus
	ps  *redis.PubSub
	// ctx opens no connection: go-redis would otherwise reconnect and subscribe again by itself, and a hole in the stream
	// would look like none.
	ctx context.Context //nolint:containedctx // marks every later call on ps

	private bool // the private channel is confirmed; guarded by the bus' lock

	over     chan struct{} // closed by close
	closing  sync.Once
	requests []request     // not sent yet, in the order of the decisions; guarded by the bus' lock
	wake     chan struct{} // has room for one: there are requests
}

// request is a subscription to be made or given up on a running connection.
type request struct {
	channel string
	leave   bool
}

// receiveLoop keeps a subscription until Close: connect, receive until the first doubt, tell the members, connect again.
func (b *Bus) receiveLoop() {
	var retry backoff
	for b.ctx.Err() == nil {
		began := time.Now()
		err := b.session()
		if b.ctx.Err() != nil {
			return
		}
		if time.Since(began) > settled {
			retry.reset()
		}
		wait := retry.next()
		b.logger.Log(slog.LevelWarn, "lost", "tandem: subscription lost, connecting again", "reason", err)
		if !sleep(b.ctx, wait) {
			return
		}
	}
}

// session connects, subscribes and receives until something is wrong, which it returns. The members have been told by then.
func (b *Bus) session() (err error) {
	s := &subscription{
		bus: b, ps: b.client.Subscribe(b.ctx), ctx: redisclient.WithoutDial(b.ctx),
		over: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	var writer sync.WaitGroup
	defer writer.Wait()
	// go-redis asserts the types of what it reads, so bytes that are not Redis' protocol can panic in it.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic while receiving: %v", p)
		}
		s.close()
		b.endAll(err)
	}()
	if err := b.connect(s); err != nil {
		return err
	}
	writer.Go(s.writeLoop)
	for {
		m, err := s.receive()
		if err != nil {
			return explainPermission(err)
		}
		if err := s.apply(m); err != nil {
			return err
		}
	}
}

// connect dials, and asks for the private channel and every topic's in one command.
func (b *Bus) connect(s *subscription) error {
	b.mu.Lock()
	channels := []string{b.inbox}
	for name, c := range b.channels {
		c.asked++
		channels = append(channels, name)
	}
	closed := b.closed
	b.mu.Unlock()
	if closed {
		return ErrClosed
	}

	ctx, cancel := context.WithTimeout(b.ctx, b.greeting())
	defer cancel()
	if err := s.ps.Subscribe(ctx, channels...); err != nil {
		return err
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed { // since the list was made: Stop could not close what it did not know
		return ErrClosed
	}
	b.current = s
	b.sessions++
	// Some may have joined since the list was made, and some left.
	for name, c := range b.channels {
		switch {
		case c.asked == 0:
			c.asked++
			s.requestLocked(request{channel: name})
		case len(c.members) == 0:
			c.leaving++
			s.requestLocked(request{channel: name, leave: true})
		}
	}
	return nil
}

// requestLocked has r sent after those before it. The bus' lock is held where it is decided and not where it is sent, which
// can block on a peer that has stopped reading.
func (s *subscription) requestLocked(r request) {
	s.requests = append(s.requests, r)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// writeLoop sends requests until the subscription is over. The receiver gets their confirmations; a failure to send breaks
// the connection, which it notices as well.
func (s *subscription) writeLoop() {
	for {
		select {
		case <-s.wake:
		case <-s.over:
			return
		}
		s.bus.mu.Lock()
		requests := s.requests
		s.requests = nil
		s.bus.mu.Unlock()
		for _, r := range requests {
			ctx := redisclient.Deadline(s.ctx, time.Now().Add(min(s.bus.interval(), s.bus.writePatience)))
			var err error
			if r.leave {
				err = s.ps.Unsubscribe(ctx, r.channel)
			} else {
				err = s.ps.Subscribe(ctx, r.channel)
			}
			if err != nil {
				s.close()
				return
			}
		}
	}
}

// close is safe to call twice.
func (s *subscription) close() {
	s.closing.Do(func() {
		close(s.over)
		_ = s.ps.Close()
	})
}

// receive waits for the next message. Every error is the end: go-redis cannot be asked to go on after one without its
// reconnecting or losing its place.
func (s *subscription) receive() (any, error) {
	return receive(s.ctx, s.ps, silence(s.bus.interval()))
}

// receive waits for the next message, no longer than patience. ctx is one that opens no connection.
func receive(ctx context.Context, ps *redis.PubSub, patience time.Duration) (any, error) {
	m, err := ps.ReceiveTimeout(redisclient.Deadline(ctx, time.Now().Add(patience)), 0)
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return nil, fmt.Errorf("%w for %v", errSilence, patience)
	}
	return m, err
}

// apply hands a message to whom it is for; an error ends the session.
func (s *subscription) apply(received any) error {
	b := s.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	switch m := received.(type) {
	case *redis.Message:
		if m.Channel == b.inbox {
			b.applyPrivate(m.Payload)
			return nil
		}
		b.applyTopic(m.Channel, m.Payload)
		return nil
	case *redis.Subscription:
		return s.applySubscription(m)
	case *redis.Pong:
		return nil
	default:
		return fmt.Errorf("received a %T", received)
	}
}

// applySubscription takes a confirmation. One that was not asked for ends the session: a second one for a channel means a
// reconnection that we did not make, and an unsubscription silence from here on.
func (s *subscription) applySubscription(m *redis.Subscription) error {
	b, c := s.bus, s.bus.channels[m.Channel]
	switch {
	case m.Channel == b.inbox && m.Kind == "subscribe" && !s.private:
		s.private = true
		b.Kick()
		return nil
	case m.Kind == "subscribe" && c != nil && c.asked > 0:
		c.asked--
	case m.Kind == "unsubscribe" && c != nil && c.leaving > 0:
		c.leaving--
	default:
		return fmt.Errorf("unexpected %s of %s", m.Kind, m.Channel)
	}
	switch {
	case c.asked > 0 || c.leaving > 0:
	case len(c.members) == 0:
		delete(b.channels, m.Channel)
	case m.Kind == "subscribe":
		c.confirmed = true
		for _, member := range c.members {
			member.Handler.Begin()
		}
		b.Kick()
	}
	return nil
}

func (b *Bus) applyTopic(name, payload string) {
	if c := b.channels[name]; c != nil {
		handOver(c.members, payload, b.acknowledge)
	}
}

// handOver tells the members of a message on their channel. An Ask is for ask: all members have what was published before it.
func handOver(members []*member, payload string, ask func(Message)) {
	m, err := Parse(payload)
	if err == nil && m.Op == Ask {
		ask(m)
		return
	}
	if err == nil && m.Op != Invalidate && m.Op != Tags && m.Op != All {
		err = fmt.Errorf("%w: %s on a topic's channel", ErrMessage, m.Op)
	}
	for _, member := range members {
		if err != nil {
			member.Handler.Unreadable(err)
		} else {
			member.Handler.Message(m)
		}
	}
}

// applyPrivate ignores what it cannot read: nothing on the private channel is an invalidation.
func (b *Bus) applyPrivate(payload string) {
	m, err := Parse(payload)
	if err != nil {
		return
	}
	switch m.Op {
	case Beat:
		if at, joined, ok := b.sent.find(m.Token); ok {
			b.prove(at, joined)
		}
	case Wake:
		if c := b.channels[m.Channel]; c != nil {
			for _, member := range c.members {
				member.Handler.Message(m)
			}
		}
	case Ack:
		b.questions.acknowledged(m.Token, m.Sender)
	case Invalidate, Tags, All, Ask:
	}
}

// prove tells the members of a heartbeat that was sent at at, when joined had joined. Who has joined since was not registered by
// it: see steady.lua.
func (b *Bus) prove(at int64, joined uint64) {
	for _, c := range b.channels {
		if !c.confirmed {
			continue
		}
		for _, member := range c.members {
			if provenBy(joined, member) {
				member.Handler.Prove(at)
			}
		}
	}
}

// provenBy reports whether a heartbeat that was sent when joined had joined can be a proof for a member: it has looked after its
// registration.
func provenBy(joined uint64, member *member) bool {
	later := member.Registry != "" && member.place > joined
	return !later
}

// endAll tells every member whose session had begun that it is over.
func (b *Bus) endAll(reason error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current = nil
	if b.closed {
		reason = ErrClosed
	}
	for name, c := range b.channels {
		if c.confirmed {
			for _, member := range c.members {
				member.Handler.End(reason)
			}
		}
		c.confirmed, c.asked, c.leaving = false, 0, 0
		if len(c.members) == 0 {
			delete(b.channels, name)
		}
	}
}
