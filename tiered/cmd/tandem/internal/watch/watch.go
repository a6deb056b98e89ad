// Package watch listens to the bus of one cache or of all, and says what it hears and when it may have missed something.
package watch

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/redisclient"
	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/remote"
)

// How fast a dead connection is noticed and replaced.
const (
	dialTimeout = 5 * time.Second
	pingEvery   = time.Second
	silence     = 4 * pingEvery
	firstRetry  = 50 * time.Millisecond
	lastRetry   = 2 * time.Second
)

// Kind is what an Event is about.
type Kind string

// The kinds.
const (
	Listening  Kind = "listening"  // from here on everything is heard
	Message    Kind = "message"    // a message
	Unreadable Kind = "unreadable" // bytes that are not a message; instances drop their L1
	Lost       Kind = "lost"       // the connection: until Listening, messages are missed
	Looking    Kind = "looking"    // for caches, in a cluster; what is said before Listening to one is missed
)

// Event is one thing that happened.
type Event struct {
	Kind    Kind
	At      time.Time
	Channel string
	Cache   string // if the channel is that of a cache's bus
	Message pubsub.Message
	Payload string // the bytes of what is Unreadable
	Err     error  // why, for Unreadable and Lost

	// Of a cluster, for Listening and Lost: what is heard or missed are these many of all partitions, at this node.
	Node           string
	Partitions, Of int
}

// Subject is what is listened to.
type Subject struct {
	channel string
	pattern bool
}

// Cache is the bus of one cache in a logical database.
func Cache(name string, db int) (Subject, error) {
	keys, err := remote.KeysFor(name)
	if err != nil {
		return Subject{}, err
	}
	return Subject{channel: keys.Channel(0, db)}, nil
}

// All is the buses of all caches in a logical database.
func All(db int) Subject {
	return Subject{channel: channelPrefix + "*" + channelSuffix(db), pattern: true}
}

// As the package remote documents the channels.
const channelPrefix = "tandem:{"

func channelSuffix(db int) string { return "}:bus:" + strconv.Itoa(db) }

func (s Subject) String() string { return s.channel }

// Run tells what happens until ctx ends, and then returns nil. It returns an error only if the first connection fails;
// later ones are tried again for ever.
//
// It makes a client of its own from rdb, because go-redis would otherwise connect again by itself and hide the gap.
func Run(ctx context.Context, rdb redis.UniversalClient, s Subject, tell func(Event)) error {
	client, err := redisclient.Derive(rdb, nil)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	wait := firstRetry
	for first := true; ; {
		heard, err := listen(ctx, client, s, tell)
		switch {
		case ctx.Err() != nil:
			return nil
		case first && !heard:
			return err
		case heard:
			wait = firstRetry
			tell(Event{Kind: Lost, At: time.Now(), Err: err})
		}
		first = false
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
		wait = min(2*wait, lastRetry)
	}
}

// listen holds one connection until it fails. It reports whether the subscription was confirmed.
func listen(ctx context.Context, client redis.UniversalClient, s Subject, tell func(Event)) (heard bool, err error) {
	ps := client.Subscribe(ctx)
	defer func() { _ = ps.Close() }()
	// A Receive does not heed the end of its context.
	stop := context.AfterFunc(ctx, func() { _ = ps.Close() })
	defer stop()

	subscribe := ps.Subscribe
	if s.pattern {
		subscribe = ps.PSubscribe
	}
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := subscribe(dialCtx, s.channel); err != nil {
		return false, err
	}
	// From here on a connection that is lost stays lost.
	ctx, cancelPings := context.WithCancel(redisclient.WithoutDial(ctx))
	pings := make(chan struct{})
	go func() {
		defer close(pings)
		ping(ctx, ps)
	}()
	defer func() {
		cancelPings()
		<-pings
	}()
	for {
		got, err := ps.ReceiveTimeout(redisclient.Deadline(ctx, time.Now().Add(silence)), 0)
		if err != nil {
			return heard, explain(err)
		}
		switch m := got.(type) {
		case *redis.Subscription:
			if heard {
				return heard, fmt.Errorf("unexpected %s of %s", m.Kind, m.Channel)
			}
			heard = true
			tell(Event{Kind: Listening, At: time.Now(), Channel: s.channel})
		case *redis.Message:
			tell(eventOf(m))
		}
	}
}

func explain(err error) error {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("no answer for %v", silence)
	}
	return err
}

// ping keeps something arriving on a connection on which nothing happens, so that silence means that it is dead.
func ping(ctx context.Context, ps *redis.PubSub) {
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			// A failure shows in the receiver, too.
			_ = ps.Ping(redisclient.Deadline(ctx, time.Now().Add(pingEvery)))
		case <-ctx.Done():
			return
		}
	}
}

func eventOf(m *redis.Message) Event {
	e := Event{Kind: Message, At: time.Now(), Channel: m.Channel, Cache: cacheOf(m.Channel)}
	if e.Cache == "" {
		e.Cache = shardedCache(m.Channel)
	}
	msg, err := pubsub.Parse(m.Payload)
	if err == nil && msg.Op != pubsub.Invalidate && msg.Op != pubsub.Tags && msg.Op != pubsub.All && msg.Op != pubsub.Ask {
		err = fmt.Errorf("%w: %s on the channel of a cache", pubsub.ErrMessage, msg.Op)
	}
	if err != nil {
		e.Kind, e.Err, e.Payload = Unreadable, err, m.Payload
		return e
	}
	e.Message = msg
	return e
}

// shardedChannel is that of a partition of a cache in a cluster.
var shardedChannel = regexp.MustCompile(`^tandem:([A-Za-z0-9._-]+):\{[0-9a-z]+\}:bus:0$`)

// shardedCache is cacheOf for such a channel.
func shardedCache(channel string) string {
	m := shardedChannel.FindStringSubmatch(channel)
	if m == nil || remote.CheckName(m[1]) != nil {
		return ""
	}
	return m[1]
}

// cacheOf returns the name in a bus' channel, or nothing for another channel.
func cacheOf(channel string) string {
	rest, ok := strings.CutPrefix(channel, channelPrefix)
	if !ok {
		return ""
	}
	name, _, ok := strings.Cut(rest, "}")
	if !ok || remote.CheckName(name) != nil {
		return ""
	}
	return name
}
