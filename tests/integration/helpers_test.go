package integration

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/leak"
	"github.com/tandemcache/tandem/tests/redisserver"
	"github.com/tandemcache/tandem/tiered"
)

func TestMain(m *testing.M) { leak.Main(runner{m}) }

// runner stops what tests share before goroutines are counted.
type runner struct{ m *testing.M }

func (r runner) Run() int {
	defer func() { _ = sharedCluster.Close() }()
	return r.m.Run()
}

const (
	patience = 20 * time.Second
	// unhurried is a RedisTimeout for tests that are not about it: a busy machine keeps it.
	unhurried = 5 * time.Second
	// calmBound is a MaxStaleness within which an instance has proof on a busy machine too, as exact counts need it.
	calmBound = 10 * time.Second
)

func calm(o *tiered.Options[Value]) { o.MaxStaleness = calmBound }

func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, patience, time.Millisecond, what)
}

// Value is big enough for a torn or mixed-up one to show.
type Value struct {
	Key     string `json:"key"`
	Version int64  `json:"version"`
	Body    []byte `json:"body"`
}

// source is a database with versions.
type source struct {
	mu       sync.Mutex
	versions map[string]int64
	delay    time.Duration
	loads    atomic.Int64
	// hold, if set, is called between the reading of a version and the loader's return.
	hold atomic.Pointer[func(key string)]
}

func newSource(delay time.Duration) *source {
	return &source{versions: map[string]int64{}, delay: delay}
}

func (s *source) write(key string) Value {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions[key]++
	return s.valueLocked(key)
}

func (s *source) read(key string) Value {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.valueLocked(key)
}

func (s *source) valueLocked(key string) Value {
	v := s.versions[key]
	return Value{Key: key, Version: v, Body: fmt.Appendf(nil, "%s is at %d", key, v)}
}

func (s *source) load(ctx context.Context, key string) (Value, error) {
	s.loads.Add(1)
	v := s.read(key)
	if s.delay > 0 {
		select {
		case <-time.After(s.delay):
		case <-ctx.Done():
			return Value{}, ctx.Err()
		}
	}
	if hold := s.hold.Load(); hold != nil {
		(*hold)(key)
	}
	return v, nil
}

// holdNext makes the next load stop after it has read.
func (s *source) holdNext() (read <-chan struct{}, letGo func()) {
	reached, gate := make(chan struct{}), make(chan struct{})
	var taken atomic.Bool
	hold := func(string) {
		if taken.CompareAndSwap(false, true) {
			close(reached)
			<-gate
		}
	}
	s.hold.Store(&hold)
	return reached, sync.OnceFunc(func() { close(gate) })
}

func startRedis(t testing.TB, args ...string) server {
	t.Helper()
	return server{redisserver.Run(t, redisserver.Options{Args: args})}
}

func client(t testing.TB, srv server) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: srv.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func instance(t testing.TB, at place, s *source, change ...func(*tiered.Options[Value])) *tiered.Cache[Value] {
	t.Helper()
	opts := tiered.Options[Value]{
		Load: s.load, LocalBytes: 8 << 20, RedisTimeout: unhurried, Logger: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&opts)
	}
	c, err := tiered.New(at.client(t), at.name(), opts)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.Ready(soon(t)))
	return c
}

func fleet(t testing.TB, n int, at place, s *source, change ...func(*tiered.Options[Value])) []*tiered.Cache[Value] {
	t.Helper()
	out := make([]*tiered.Cache[Value], n)
	for i := range out {
		out[i] = instance(t, at, s, change...)
	}
	return out
}

func get(t testing.TB, c *tiered.Cache[Value], key string) int64 {
	t.Helper()
	v, err := c.Get(t.Context(), key)
	require.NoError(t, err)
	if want := fmt.Sprintf("%s is at %d", key, v.Version); v.Key != key || string(v.Body) != want {
		require.FailNowf(t, "wrong value", "%s: %+v", key, v)
	}
	return v.Version
}

// stored reads new keys until Redis has taken what was loaded for one, and returns that: a Get that a busy machine has kept from
// Redis loads without.
func stored(t testing.TB, c *tiered.Cache[Value]) (key string) {
	t.Helper()
	eventually(t, "one is in Redis", func() bool {
		key += "k"
		fills := c.Stats().Fills
		get(t, c, key)
		return c.Stats().Fills > fills
	})
	return key
}

func wait[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		require.FailNow(t, "waited too long for "+what)
		panic("unreachable")
	}
}

// quantile returns the q-th part of the sorted durations.
func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	d = slices.Sorted(slices.Values(d))
	return d[min(int(q*float64(len(d))), len(d)-1)]
}
