package tiered

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/redisclient"
	"github.com/tandemcache/tandem/pubsub"
)

// Bus is a process's connection to one Redis: a subscription, heartbeats, and two pools of connections, for any number of
// caches. A cache without one in its Options makes its own.
type Bus struct {
	rdb redis.UniversalClient // as given, to compare
	db  int
	// data carries reads, leases and fills. control carries heartbeats, Sets, invalidations and the subscription, so that
	// reads in trouble do not hold them up.
	data, control *redisclient.Client
	hub           *pubsub.Bus
	closeOnce     sync.Once

	mu       sync.Mutex // protects tracking
	tracking map[*redisclient.Client]struct{}
}

// trackingClient returns a client for one tracker, and what closes it with every connection that it has or is making. It leads to
// the server of the heartbeats, as the others do, and follows it.
func (b *Bus) trackingClient(prefix string) (client *redisclient.Client, leave func(), err error) {
	track := pubsub.TrackingOn(prefix)
	verify := func(ctx context.Context, cn *redis.Conn) error {
		if err := b.verify(ctx, cn); err != nil {
			return err
		}
		return track(ctx, cn)
	}
	client, err = redisclient.Derive(b.rdb, verify, func(o *redis.Options) { o.Protocol = 2 })
	if err != nil {
		return nil, nil, fmt.Errorf("tiered: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tracking == nil {
		b.tracking = make(map[*redisclient.Client]struct{})
	}
	b.tracking[client] = struct{}{}
	return client, func() {
		b.mu.Lock()
		delete(b.tracking, client)
		b.mu.Unlock()
		client.Reset() // Close alone leaves a subscription's connection open that is being made meanwhile
		_ = client.Close()
	}, nil
}

func (b *Bus) resetTracking() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for client := range b.tracking {
		client.Reset()
	}
}

// NewBus returns a Bus to the Redis of rdb, for Options.Bus. It does not wait for a connection. rdb stays the caller's: the
// Bus opens connections of its own with the same options, because rdb's timeouts and retries are not made for a cache
// (hooks added to rdb do not see them). A nil logger means slog.Default().
//
// It returns ErrUnsupportedClient for a client that cannot keep the contract.
func NewBus(rdb redis.UniversalClient, logger *slog.Logger) (*Bus, error) {
	b := &Bus{rdb: rdb}
	var err error
	if b.data, err = redisclient.Derive(rdb, b.verifyData); err != nil {
		return nil, fmt.Errorf("tiered: %w", err)
	}
	if b.control, err = redisclient.Derive(rdb, b.verify); err != nil {
		return nil, errors.Join(fmt.Errorf("tiered: %w", err), b.data.Close())
	}
	if logger == nil {
		logger = slog.Default()
	}
	b.db = b.data.Options().DB
	b.hub = pubsub.New(b.control, pubsub.Options{DB: b.db, Logger: logger, Redial: func() {
		b.data.Reset()
		b.control.Reset()
		b.resetTracking()
	}})
	return b, nil
}

// Close ends the subscription and closes the connections. Close the caches on it first: those that are still open go on
// as if Redis had failed. It may be called more than once.
func (b *Bus) Close() error {
	var err error
	b.closeOnce.Do(func() {
		// The clients before waiting: closing its connection is what ends a heartbeat that waits for a Redis that does not answer.
		b.hub.Stop()
		err = errors.Join(b.data.Close(), b.control.Close())
		b.hub.Close()
	})
	return err
}

func (b *Bus) id() string    { return b.hub.ID() }
func (b *Bus) inbox() string { return b.hub.Inbox() }
func (b *Bus) kick()         { b.hub.Kick() }
