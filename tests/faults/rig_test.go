package faults

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/confirm"
	"github.com/tandemcache/tandem/tests/leak"
	"github.com/tandemcache/tandem/tests/redisserver"
	"github.com/tandemcache/tandem/tiered"
)

const (
	cacheName = "things"
	// patience is for what must happen and has no bound of its own.
	patience = time.Minute
	// slack is what a busy machine may add to a bound of the contract; below what go-redis' own settings make of a fault (5 s
	// for a read, 100 s for a connection). The figures that the tests log are the ones to look at.
	slack = 2500 * time.Millisecond
)

// childEnv makes this test binary an instance in a process of its own; it holds the server's address.
const childEnv = "TANDEM_FAULTS_CHILD"

// clientLog is what go-redis itself writes, for the whole process.
var clientLog logbook

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		child()
		return
	}
	redis.SetLogger(&clientLog)
	leak.Main(m)
}

type cache = tiered.Cache[value]

// value carries a sum of its key and version, so that a torn or mixed-up one shows.
type value struct {
	Key     string `json:"key"`
	Version int64  `json:"version"`
	Sum     uint64 `json:"sum"`
}

func newValue(key string, version int64) value {
	return value{Key: key, Version: version, Sum: sumOf(key, version)}
}

func (v value) of(key string) bool { return v.Key == key && v.Sum == sumOf(key, v.Version) }

func sumOf(key string, version int64) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key))
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(version)))
	return h.Sum64()
}

// source is a database with versions. Each load takes delay.
type source struct {
	delay time.Duration
	loads atomic.Int64

	mu       sync.Mutex // protects what follows
	versions map[string]int64
	underway int
	most     int // loads that were under way at once
	hold     chan struct{}
}

func newSource(delay time.Duration) *source {
	return &source{delay: delay, versions: make(map[string]int64)}
}

func (s *source) write(key string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions[key]++
	return s.versions[key]
}

func (s *source) version(key string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.versions[key]
}

// holdLoads makes every load stop after it has read, until letGo is called.
func (s *source) holdLoads() (letGo func()) {
	hold := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold = hold
	return sync.OnceFunc(func() {
		s.mu.Lock()
		s.hold = nil
		s.mu.Unlock()
		close(hold)
	})
}

func (s *source) load(ctx context.Context, key string) (value, error) {
	v, hold := s.begin(key)
	s.loads.Add(1) // whoever sees it counted knows that it has read
	defer s.end()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return value{}, ctx.Err()
		}
	}
	if s.delay > 0 && !sleep(ctx, s.delay) {
		return value{}, ctx.Err()
	}
	return v, nil
}

func (s *source) begin(key string) (value, chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.underway++
	s.most = max(s.most, s.underway)
	return newValue(key, s.versions[key]), s.hold
}

func (s *source) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.underway--
}

func (s *source) busiest() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func startRedis(t testing.TB, args ...string) *redisserver.Server {
	t.Helper()
	return redisserver.Run(t, redisserver.Options{Args: args})
}

// client has go-redis' default options, which are what most users give to New.
func client(t testing.TB, addr string) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// instance returns a cache that has not connected yet. What it logs goes to log.
func instance(t testing.TB, addr string, s *source, log *logbook, change ...func(*tiered.Options[value])) *cache {
	t.Helper()
	opts := tiered.Options[value]{Load: s.load, LocalBytes: 8 << 20, Logger: slog.New(log)}
	for _, f := range change {
		f(&opts)
	}
	c, err := tiered.New(client(t, addr), cacheName, opts)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// ready returns an instance that hears and is heard.
func ready(t testing.TB, addr string, s *source, change ...func(*tiered.Options[value])) *cache {
	t.Helper()
	c := instance(t, addr, s, &logbook{}, change...)
	require.NoError(t, c.Ready(soon(t)))
	return c
}

func staleness(d time.Duration) func(*tiered.Options[value]) {
	return func(o *tiered.Options[value]) { o.MaxStaleness = d }
}

func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	// Not require.Eventually, which asks on a goroutine of its own: that would be counted, and could not end the test.
	for began := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		require.Less(t, time.Since(began), patience, "waited too long: %s", what)
	}
}

// kept reads key until Redis has its entry: a Get whom a busy machine has kept from Redis for a RedisTimeout loads without.
func kept(t testing.TB, c *cache, admin *redis.Client, key string) (field, envelope string) {
	t.Helper()
	eventually(t, "Redis keeps "+key, func() bool {
		get(t, c, key)
		for name, content := range admin.HGetAll(soon(t), entry(key)).Val() {
			if !strings.HasSuffix(name, ".l") && !strings.HasSuffix(name, ".w") {
				field, envelope = name, content
				return true
			}
		}
		confirm.Within(t, patience, func() error { return c.Invalidate(soon(t), key) })
		return false
	})
	return field, envelope
}

// get returns the version that c has of key.
func get(t testing.TB, c *cache, key string) int64 {
	t.Helper()
	v, err := c.Get(context.Background(), key)
	require.NoError(t, err)
	require.True(t, v.of(key), "%s: %+v", key, v)
	return v.Version
}

// trusted waits until both tiers of all the caches are, and nothing is pending. It reads meanwhile: an open breaker needs a
// probe.
func trusted(t testing.TB, caches ...*cache) time.Duration {
	t.Helper()
	began, n := time.Now(), 0
	eventually(t, "trusted", func() bool {
		n++
		all := true
		for _, c := range caches {
			get(t, c, "probe:"+strconv.Itoa(n))
			all = all && healthy(c)
		}
		return all
	})
	return time.Since(began)
}

func healthy(c *cache) bool {
	h := c.Health()
	return h.LocalTrusted && h.RemoteTrusted && !h.BreakerOpen && h.PendingKeys == 0 && !h.PendingAll
}

// entry is the name of key's entry in Redis.
func entry(key string) string { return "tandem:{" + cacheName + "}:k:" + key }

const channel = "tandem:{" + cacheName + "}:bus:0"

// logbook is a slog.Handler and go-redis' logger, and remembers.
type logbook struct {
	mu    sync.Mutex
	lines []string
}

func (l *logbook) Enabled(context.Context, slog.Level) bool { return true }

func (l *logbook) Handle(_ context.Context, r slog.Record) error {
	l.add(r.Message)
	return nil
}

func (l *logbook) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *logbook) WithGroup(string) slog.Handler      { return l }

// Printf is go-redis' side.
func (l *logbook) Printf(_ context.Context, format string, _ ...any) { l.add(format) }

func (l *logbook) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

// count returns how many lines contain part.
func (l *logbook) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, line := range l.lines {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

// most is the largest duration it was told.
type most struct{ ns atomic.Int64 }

func (m *most) note(d time.Duration) {
	for {
		old := m.ns.Load()
		if int64(d) <= old || m.ns.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

func (m *most) get() time.Duration { return time.Duration(m.ns.Load()) }

// footprint is what calls could leave behind.
type footprint struct{ goroutines, sockets int }

func measure() footprint { return footprint{runtime.NumGoroutine(), sockets()} }

// sockets counts this process's, or returns 0 where the system does not tell.
func sockets() int {
	const dir = "/proc/self/fd"
	fds, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	n := 0
	for _, fd := range fds {
		if name, err := os.Readlink(dir + "/" + fd.Name()); err == nil && strings.HasPrefix(name, "socket:") {
			n++
		}
	}
	return n
}

// least waits until the process is down to at most what is allowed, and returns the footprint then.
func least(t testing.TB, allowed footprint) footprint {
	t.Helper()
	var now footprint
	eventually(t, "goroutines and sockets are given back", func() bool {
		now = measure()
		return now.goroutines <= allowed.goroutines && now.sockets <= allowed.sockets
	})
	return now
}

// leavesNothing fails the test if it leaves goroutines or sockets behind once everything is closed. A dial that was under way
// may end a little later.
func leavesNothing(t testing.TB) {
	t.Helper()
	before := measure()
	t.Cleanup(func() { least(t, before) })
}
