package tiered

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/partition"
	"github.com/tandemcache/tandem/internal/redisclient"
	"github.com/tandemcache/tandem/pubsub"
)

// DefaultPartitions is what BusOptions.Partitions is if it is zero: enough for six masters to have within a tenth of the mean.
const DefaultPartitions = 64

// Bus is a process's connection to one Redis, or to one Redis Cluster: subscriptions, heartbeats, and two pools of connections
// for each server, for any number of caches. A cache without one in its Options makes its own.
type Bus struct {
	rdb    redis.UniversalClient // as given, to compare
	db     int
	logger *slog.Logger
	hub    hub
	only   *host // nil in a cluster

	// Of a cluster.
	cluster *redis.ClusterClient // as given
	table   partition.Table
	router  *redisclient.Cluster

	closeOnce sync.Once

	mu       sync.Mutex // protects what follows
	ended    bool
	hosts    map[string]*host // of a cluster, by address
	tracking map[*redisclient.Client]struct{}
}

// BusOptions are what NewBusWith makes a Bus with. The zero value is what NewBus uses.
type BusOptions struct {
	// Logger may be nil, which means slog.Default().
	Logger *slog.Logger
	// Partitions is how many parts the keys of each cache are in, in a Redis Cluster: a power of two from 16 to 1024, zero means
	// DefaultPartitions. All instances of a cache must say the same; one that does not is refused, see ErrPartitions. More of
	// them spread the keys more evenly over many masters, and cost more for each heartbeat. A single Redis has one, whatever
	// this says.
	Partitions int
}

// NewBus is NewBusWith a logger, which may be nil.
func NewBus(rdb redis.UniversalClient, logger *slog.Logger) (*Bus, error) {
	return NewBusWith(rdb, BusOptions{Logger: logger})
}

// NewBusWith returns a Bus to the Redis of rdb, for Options.Bus. It does not wait for a connection. rdb stays the caller's: the
// Bus opens connections of its own with the same options, because rdb's timeouts and retries are not made for a cache
// (hooks added to rdb do not see them).
//
// It returns ErrUnsupportedClient for a client that cannot keep the contract, and ErrInvalidOption.
func NewBusWith(rdb redis.UniversalClient, opts BusOptions) (*Bus, error) {
	b := &Bus{rdb: rdb, logger: opts.Logger, hosts: make(map[string]*host)}
	if b.logger == nil {
		b.logger = slog.Default()
	}
	var err error
	if cluster, ok := rdb.(*redis.ClusterClient); ok {
		err = b.connectCluster(cluster, opts.Partitions)
	} else {
		err = b.connect()
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// connect makes b the bus of a single Redis.
func (b *Bus) connect() error {
	verify := func(ctx context.Context, cn *redis.Conn) error { return b.verify(ctx, cn, "") }
	verifyData := func(ctx context.Context, cn *redis.Conn) error { return b.verifyData(ctx, cn, "") }
	s, err := newHost("", func(v redisclient.VerifyFunc) (*redisclient.Client, error) {
		return redisclient.Derive(b.rdb, v)
	}, verifyData, verify)
	if err != nil {
		return err
	}
	b.only, b.db = s, s.data.Options().DB
	b.hub = single{pubsub.New(s.control, pubsub.Options{DB: b.db, Logger: b.logger, Redial: func() {
		s.reset()
		b.resetTracking()
	}})}
	return nil
}

// connectCluster makes b the bus of a cluster.
func (b *Bus) connectCluster(cluster *redis.ClusterClient, partitions int) error {
	if partitions == 0 {
		partitions = DefaultPartitions
	}
	var err error
	if b.table, err = partition.New(partitions); err != nil {
		return fmt.Errorf("%w: BusOptions.Partitions: %w", ErrInvalidOption, err)
	}
	if b.router, err = redisclient.Router(cluster); err != nil {
		return fmt.Errorf("tiered: %w", err)
	}
	b.cluster = cluster
	b.hub = pubsub.NewCluster(pubsub.ClusterOptions{
		Router: b.router, Table: b.table, Logger: b.logger,
		Node: func(addr string) redis.UniversalClient {
			s, err := b.host(addr)
			if err != nil {
				return nil
			}
			return s.control
		},
		Redial: func(addr string) {
			if s := b.known(addr); s != nil {
				s.reset()
			}
		},
		Gone: b.forget,
	})
	return nil
}

// trackingClient returns a client for one tracker, and what closes it with every connection that it has or is making. It leads to
// the server of the heartbeats, as the others do, and follows it.
func (b *Bus) trackingClient(prefix string) (client *redisclient.Client, leave func(), err error) {
	track := pubsub.TrackingOn(prefix)
	verify := func(ctx context.Context, cn *redis.Conn) error {
		if err := b.verify(ctx, cn, ""); err != nil {
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

// Close ends the subscription and closes the connections. Close the caches on it first: those that are still open go on
// as if Redis had failed. It may be called more than once.
func (b *Bus) Close() error {
	var err error
	b.closeOnce.Do(func() {
		// The clients before waiting: closing its connection is what ends a heartbeat that waits for a Redis that does not answer.
		b.hub.Stop()
		err = b.closeHosts()
		b.hub.Close()
	})
	return err
}

func (b *Bus) closeHosts() error {
	b.mu.Lock()
	b.ended = true
	var errs []error
	for _, s := range b.hosts {
		errs = append(errs, s.close())
	}
	b.mu.Unlock()
	if b.only != nil {
		errs = append(errs, b.only.close())
	}
	if b.router != nil {
		errs = append(errs, b.router.Close())
	}
	return errors.Join(errs...)
}

func (b *Bus) id() string { return b.hub.ID() }
