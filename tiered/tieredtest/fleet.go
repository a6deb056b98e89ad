package tieredtest

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/tandemcache/tandem/remote"
	"github.com/tandemcache/tandem/tiered"
)

const (
	cacheName  = "tieredtest"
	localBytes = 4 << 20
	// poolSize is more than a test has use for. A client that waits for its pool uses a timer that go-redis shares among
	// all clients of the process, and one that was made in a bubble must not be used outside of it.
	poolSize = 10_000
	// patience is how long Ready and Settle wait before they fail the test.
	patience = 30 * time.Second
)

// Fleet is a number of instances of one cache on one embedded Redis, as several processes of a service would have it.
//
// Its methods are called by the goroutine of the test, as they fail it with Fatalf; the caches by any.
type Fleet[V any] struct {
	t         testing.TB
	net       *network
	instances []*instance[V]
	bubble    bool
}

type instance[V any] struct {
	link   *link
	client *redis.Client
	cache  *tiered.Cache[V]
}

// New returns a cache on a Redis of its own, connected. The options are as for NewFleet. It is closed when the test ends.
func New[V any](t testing.TB, opts tiered.Options[V]) *tiered.Cache[V] {
	t.Helper()
	return NewFleet(t, 1, opts).Cache(0)
}

// NewFleet returns n instances of one cache on a new embedded Redis, all of them connected. They are closed when the test
// ends, with the faults that are left healed first.
//
// Each instance has a copy of the options. Unlike in tiered.New, a zero Jitter is none, so that TTLs are exact, a zero
// LocalBytes 4 MiB, and a nil Logger writes to the test's output. Options.Bus must be nil: each instance has its own.
func NewFleet[V any](t testing.TB, n int, opts tiered.Options[V]) *Fleet[V] {
	t.Helper()
	if n < 1 {
		t.Fatalf("tieredtest: a fleet of %d instances, must be at least 1", n)
	}
	if opts.Bus != nil {
		t.Fatalf("tieredtest: Options.Bus must be nil, each instance has its own")
	}
	network, err := newNetwork(n)
	if err != nil {
		t.Fatalf("tieredtest: %v", err)
	}
	f := &Fleet[V]{t: t, net: network, bubble: inBubble()}
	logs := &output{to: t.Output()}
	t.Cleanup(func() {
		t.Helper()
		f.close()
		logs.stop()
	})
	opts.Jitter = cmp.Or(opts.Jitter, tiered.Off)
	opts.LocalBytes = cmp.Or(opts.LocalBytes, localBytes)
	for _, l := range network.links {
		own := opts
		if own.Logger == nil {
			own.Logger = slog.New(slog.NewTextHandler(logs, nil)).With("instance", len(f.instances))
		}
		i := &instance[V]{link: l, client: newClient(l)}
		f.instances = append(f.instances, i)
		if i.cache, err = tiered.New(i.client, cacheName, own); err != nil {
			t.Fatalf("tieredtest: %v", err)
		}
	}
	f.ready()
	return f
}

func newClient(l *link) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr:   address.String(),
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) { return l.dial(ctx) },

		PoolSize:                 poolSize,
		MaxConcurrentDials:       poolSize,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

func (f *Fleet[V]) ready() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	for n, i := range f.instances {
		if err := i.cache.Ready(ctx); err != nil {
			f.t.Fatalf("tieredtest: instance %d is not ready: %v", n, err)
		}
	}
}

// close heals first, so that what is pending can still be brought to Redis, and nothing hangs.
func (f *Fleet[V]) close() {
	f.t.Helper()
	for _, i := range f.instances {
		i.link.heal()
	}
	f.net.setDown(false)
	var closing sync.WaitGroup // each may take as long as Options.CloseTimeout
	for n, i := range f.instances {
		if i.cache == nil {
			continue
		}
		closing.Go(func() {
			if err := i.cache.Close(); err != nil && !errors.Is(err, tiered.ErrPending) {
				f.t.Errorf("tieredtest: closing instance %d: %v", n, err)
			}
		})
	}
	closing.Wait()
	for _, i := range f.instances {
		_ = i.client.Close() // the test may have closed it
	}
	f.net.close()
}

// Cache returns instance i, counted from zero. The test may close it, as if its process had ended.
func (f *Fleet[V]) Cache(i int) *tiered.Cache[V] {
	f.t.Helper()
	return f.at(i).cache
}

// Client returns a client that leads to the Redis over the link of instance i, with what is wrong with that: for code that
// makes its caches itself, and to look at what is in Redis. It is closed when the test ends; close caches made with it before.
func (f *Fleet[V]) Client(i int) *redis.Client {
	f.t.Helper()
	return f.at(i).client
}

func (f *Fleet[V]) at(i int) *instance[V] {
	f.t.Helper()
	if i < 0 || i >= len(f.instances) {
		f.t.Fatalf("tieredtest: there is no instance %d in a fleet of %d", i, len(f.instances))
	}
	return f.instances[i]
}

// inBubble asks what only the runtime knows.
func inBubble() (yes bool) {
	defer func() {
		if reason := recover(); reason != nil {
			yes = reason != "goroutine is not in a bubble"
		}
	}()
	synctest.Wait()
	return true
}

// channel is where the invalidations of the fleet's cache are published.
func channel() string {
	keys, err := remote.KeysFor(cacheName)
	if err != nil {
		panic(err) // the name is ours
	}
	return keys.Channel(0, 0)
}
