package pubsub

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/quiet"
)

// ErrClosed is returned by Join after Close, and is the reason that members are given by it.
var ErrClosed = errors.New("pubsub: bus is closed")

const (
	// beatsPerBound is how many heartbeats go out within the smallest Bound. Three are what one lost heartbeat, or one lost
	// connection, wants in order to cost no proof: see silence and allowance. More would cost the server more and prove no more.
	beatsPerBound = 3
	// maxInterval is the pace however long the bounds are, so that a member with a short one which joins does not find a
	// bus that waits for hours.
	maxInterval = 2 * time.Second
)

// Bus is one process's subscription to one Redis. Its methods may be called concurrently.
type Bus struct {
	client redis.UniversalClient
	logger *quiet.Logger
	ledger // beatLoop's, but for registers
	berth  // beatLoop's, but for whereabouts

	kick   chan struct{}
	cancel context.CancelFunc
	ctx    context.Context //nolint:containedctx // the life of the bus' goroutines, ended by Close
	done   sync.WaitGroup

	sent      sentBeats
	bound     atomic.Int64 // the smallest Bound of the members, 0 without any
	lastBound atomic.Int64 // the last one that there was

	beating   chan struct{} // holds a word while no heartbeat is on its way
	questions questions
	acks      acks

	writePatience time.Duration // the constant, but in tests

	// mu guards what follows, and is held while a member's Handler runs: so a member that joins is told of the session
	// either by Join or by the receiver, never by both or by neither.
	mu       sync.Mutex
	started  bool
	closed   bool
	channels map[string]*channel
	current  *subscription // nil while there is no connection
	sessions uint64
	joins    uint64 // how many have joined
}

// channel is a Redis channel with the members that listen to it.
type channel struct {
	members   []*member
	confirmed bool // on the current connection
	// asked and leaving are the subscriptions and unsubscriptions of this connection that are not confirmed yet. The channel
	// counts as confirmed when both are zero again and it has members: before that, a confirmation is of an earlier request.
	asked, leaving int
}

type member struct {
	Topic
	left  bool
	place uint64 // among all who have joined, from 1
}

// Options are what a Bus is made with.
type Options struct {
	// DB is the logical database that the client has selected.
	DB int
	// Logger may be nil.
	Logger *slog.Logger
	// Redial closes every connection to this Redis, so that calls and the subscription dial anew. It is called when the
	// server that the heartbeat reaches does not take writes, does not answer, or has become another one: a connection that
	// is open still leads to where it was dialled, whoever has taken that server's place. It may be nil.
	Redial func()
}

// New returns a bus on client, which stays the caller's and must be one of its own: see internal/redisclient for why. The
// bus connects when the first member joins.
func New(client redis.UniversalClient, opts Options) *Bus {
	if opts.Redial == nil {
		opts.Redial = func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	id := newID(idBytes / 2)
	logger := quiet.New(opts.Logger, time.Minute)
	b := &Bus{
		client:   client,
		logger:   logger,
		ledger:   ledger{names: names{id: id, probe: "tandem:probe:" + id, prefix: "tandem:inst:", suffix: ":" + strconv.Itoa(opts.DB)}, scripts: classic},
		kick:     make(chan struct{}, 1),
		ctx:      ctx,
		cancel:   cancel,
		channels: make(map[string]*channel),
		beating:  make(chan struct{}, 1),
		acks:     make(acks, maxAcks),

		writePatience: writePatience,
	}
	b.berth = berth{life: ctx, logger: logger, redial: opts.Redial, again: b.Kick}
	b.inbox = b.inboxOf(id)
	b.beating <- struct{}{}
	return b
}

func newID(n int) string {
	b := make([]byte, n)
	// crypto/rand.Read does not fail: it ends the process if the system has no randomness.
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// ID is the bus' random name, the sender of this process's messages.
func (b *Bus) ID() string { return b.id }

// Inbox is the bus' private channel.
func (b *Bus) Inbox() string { return b.inbox }

// Join makes a topic's Handler hear from the bus until leave is called. It does not wait for a connection.
func (b *Bus) Join(t Topic) (leave func(), err error) {
	if t.Bound <= 0 {
		return nil, fmt.Errorf("pubsub: Topic.Bound is %v, must be positive", t.Bound)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	b.joins++
	m := &member{Topic: t, place: b.joins}
	c := b.channels[t.Channel]
	if c == nil {
		c = &channel{}
		b.channels[t.Channel] = c
	}
	c.members = append(c.members, m)
	b.setBoundLocked()
	switch {
	case !b.started:
		b.started = true
		b.done.Go(b.receiveLoop)
		b.done.Go(b.beatLoop)
		b.done.Go(func() { b.acks.loop(b.ctx, b.client, redis.Pipeliner.Publish, b.interval) })
	case c.confirmed:
		m.Handler.Begin()
	case b.current != nil && len(c.members) == 1:
		c.asked++
		b.current.requestLocked(request{channel: t.Channel})
	}
	b.Kick()
	return sync.OnceFunc(func() { b.leave(m) }), nil
}

func (b *Bus) leave(m *member) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m.left = true
	c := b.channels[m.Channel]
	for i, other := range c.members {
		if other == m {
			c.members = append(c.members[:i:i], c.members[i+1:]...)
			break
		}
	}
	b.setBoundLocked()
	switch {
	case len(c.members) > 0:
	case !c.confirmed && c.asked == 0 && c.leaving == 0:
		delete(b.channels, m.Channel)
	default:
		// It stays in the map until Redis has confirmed, so that the confirmation is known to be asked for. While the
		// connection is being made, connect gives the channel up.
		c.confirmed = false
		if b.current != nil {
			c.leaving++
			b.current.requestLocked(request{channel: m.Channel, leave: true})
		}
	}
}

// Kick asks for a heartbeat now. It does not wait.
func (b *Bus) Kick() {
	select {
	case b.kick <- struct{}{}:
	default:
	}
}

// Sessions returns how many connections have been subscribed so far.
func (b *Bus) Sessions() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sessions
}

// Stop ends the subscription without waiting for the bus' goroutines. A heartbeat on its way goes on to its deadline, or
// until the client is closed.
func (b *Bus) Stop() {
	b.mu.Lock()
	b.closed = true
	current := b.current
	b.mu.Unlock()
	b.cancel()
	if current != nil {
		current.close()
	}
}

// Close is Stop, and waits for the bus' goroutines. An attempt to connect to a Redis that does not greet ends at its deadline
// of three heartbeats at the latest. Members are told that their session has ended. It may be called more
// than once.
func (b *Bus) Close() {
	b.Stop()
	b.done.Wait()
}

// interval is the time between two heartbeats.
func (b *Bus) interval() time.Duration { return intervalOf(b.bound.Load()) }

// greeting is how long an attempt to connect may take. Close waits for one that has begun after the last member has left, so
// that one is in no less of a hurry.
func (b *Bus) greeting() time.Duration { return silence(intervalOf(b.lastBound.Load())) }

func intervalOf(bound int64) time.Duration {
	if bound > 0 {
		return min(time.Duration(bound)/beatsPerBound, maxInterval)
	}
	return maxInterval
}

// silence is how long nothing may arrive before a connection counts as dead: after one lost heartbeat the next one is in time,
// and after a lost connection there is a sixth of the smallest Bound for the next one.
func silence(interval time.Duration) time.Duration { return interval * 5 / 2 }

// allowance is how long a heartbeat may take. One that is given up leaves time for another within the smallest Bound.
func allowance(interval time.Duration) time.Duration { return interval * 3 / 2 }

func (b *Bus) setBoundLocked() {
	bound := time.Duration(0)
	for _, c := range b.channels {
		for _, m := range c.members {
			if bound == 0 || m.Bound < bound {
				bound = m.Bound
			}
		}
	}
	b.bound.Store(int64(bound))
	if bound > 0 {
		b.lastBound.Store(int64(bound))
	}
}
