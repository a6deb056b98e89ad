package pubsub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/redisclient"
)

// errSilence is why a session ends on which nothing arrives, not even the bus' own heartbeats.
var errSilence = errors.New("silence on the subscription")

// subscription is one connection.
type subscription struct {
	bus *Bus
	ps  *redis.PubSub
	// ctx opens no connection: go-redis would otherwise reconnect and subscribe again by itself, and a hole in the stream
	// would look like none.
	ctx context.Context //nolint:containedctx // marks every later call on ps
}

// receiveLoop keeps a subscription until Close: connect, receive until the first doubt, tell the members, connect again.
func (b *Bus) receiveLoop() {
	defer b.done.Done()
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
	s, err := b.connect()
	if err != nil {
		return err
	}
	// go-redis asserts the types of what it reads, so bytes that are not Redis' protocol can panic in it.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic while receiving: %v", p)
		}
		s.close()
		b.endAll(err)
	}()
	for {
		m, err := s.receive()
		if err != nil {
			return err
		}
		if err := s.apply(m); err != nil {
			return err
		}
	}
}

// connect dials, and asks for the private channel and every topic's in one command.
func (b *Bus) connect() (*subscription, error) {
	s := &subscription{bus: b, ps: b.client.Subscribe(b.ctx), ctx: redisclient.WithoutDial(b.ctx)}

	b.mu.Lock()
	channels := []string{b.inbox}
	for name, c := range b.channels {
		if len(c.members) == 0 {
			delete(b.channels, name)
			continue
		}
		channels = append(channels, name)
	}
	closed := b.closed
	b.mu.Unlock()
	if closed {
		s.close()
		return nil, ErrClosed
	}

	ctx, cancel := context.WithTimeout(b.ctx, b.interval()*silentBeats)
	defer cancel()
	if err := s.ps.Subscribe(ctx, channels...); err != nil {
		s.close()
		return nil, err
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed { // since the list was made: Stop could not close what it did not know
		s.close()
		return nil, ErrClosed
	}
	b.current = s
	b.sessions++
	// Whoever joined since the list was made is not in it.
	asked := make(map[string]bool, len(channels))
	for _, name := range channels {
		asked[name] = true
	}
	for name := range b.channels {
		if !asked[name] {
			s.ask(name)
		}
	}
	return s, nil
}

// ask and drop send a command whose confirmation the receiver gets. A failure to send shows as an error there as well.
func (s *subscription) ask(channel string) { _ = s.ps.Subscribe(s.writeContext(), channel) }

func (s *subscription) drop(channel string) { _ = s.ps.Unsubscribe(s.writeContext(), channel) }

// writeContext bounds a write to a connection whose peer has stopped reading. It is short because the bus' lock is held.
func (s *subscription) writeContext() context.Context {
	return redisclient.Deadline(s.ctx, time.Now().Add(100*time.Millisecond))
}

// close is safe to call twice.
func (s *subscription) close() { _ = s.ps.Close() }

// receive waits for the next message. Every error is the end: go-redis cannot be asked to go on after one without its
// reconnecting or losing its place.
func (s *subscription) receive() (any, error) {
	patience := s.bus.interval() * silentBeats
	m, err := s.ps.ReceiveTimeout(redisclient.Deadline(s.ctx, time.Now().Add(patience)), 0)
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
		return b.applySubscription(m)
	case *redis.Pong:
		return nil
	default:
		return fmt.Errorf("received a %T", received)
	}
}

func (b *Bus) applySubscription(m *redis.Subscription) error {
	c := b.channels[m.Channel]
	switch {
	case m.Channel == b.inbox && m.Kind == "subscribe":
		b.Kick()
		return nil
	case m.Kind == "subscribe" && (c == nil || len(c.members) == 0 || c.leaving > 0):
		// Everybody left before this was confirmed. If somebody has joined since, the confirmation that counts comes after
		// that of the unsubscription in between.
		return nil
	case m.Kind == "subscribe" && !c.confirmed:
		c.confirmed = true
		for _, member := range c.members {
			member.Handler.Begin()
		}
		b.Kick()
		return nil
	case m.Kind == "unsubscribe" && c != nil && c.leaving > 0:
		if c.leaving--; len(c.members) == 0 && c.leaving == 0 {
			delete(b.channels, m.Channel)
		}
		return nil
	default:
		// A repeat for a confirmed channel means a reconnection that we did not make; an unsubscription that nobody asked
		// for means silence from here on.
		return fmt.Errorf("unexpected %s of %s", m.Kind, m.Channel)
	}
}

func (b *Bus) applyTopic(name, payload string) {
	c := b.channels[name]
	if c == nil {
		return
	}
	m, err := Parse(payload)
	if err == nil && m.Op != Invalidate && m.Op != All {
		err = fmt.Errorf("%w: %s on a topic's channel", ErrMessage, m.Op)
	}
	for _, member := range c.members {
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
		if at, ok := b.sent.find(m.Token); ok {
			b.prove(at)
		}
	case Wake:
		if c := b.channels[m.Channel]; c != nil {
			for _, member := range c.members {
				member.Handler.Message(m)
			}
		}
	case Invalidate, All:
	}
}

func (b *Bus) prove(at int64) {
	for _, c := range b.channels {
		if !c.confirmed {
			continue
		}
		for _, member := range c.members {
			member.Handler.Prove(at)
		}
	}
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
		c.confirmed, c.leaving = false, 0
		if len(c.members) == 0 {
			delete(b.channels, name)
		}
	}
}
