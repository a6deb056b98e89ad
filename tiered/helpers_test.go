package tiered

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/leak"
	"github.com/tandemcache/tandem/tests/port"
)

func TestMain(m *testing.M) { leak.Main(runner{m}) }

// runner stops what tests share before goroutines are counted.
type runner struct{ m *testing.M }

func (r runner) Run() int {
	defer stopExampleRedis()
	defer func() { _ = sharedCluster.Close() }()
	return r.m.Run()
}

// patience is how long a test waits for something that must happen.
const patience = 10 * time.Second * slowdown

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

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// source is a database with a version for each key. A test may hold its loads.
type source struct {
	mu       sync.Mutex
	versions map[string]int
	missing  map[string]bool
	err      error

	loads atomic.Int64
	// hold, if set, is called after the version has been read and before the loader returns.
	hold atomic.Pointer[func(key string, version int)]
}

func newSource() *source { return &source{versions: map[string]int{}, missing: map[string]bool{}} }

// write commits a new version and returns it.
func (s *source) write(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions[key]++
	return s.versions[key]
}

func (s *source) version(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.versions[key]
}

func (s *source) setErr(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

var errSource = errors.New("the source is down")

func (s *source) load(_ context.Context, key string) (int, error) {
	s.loads.Add(1)
	s.mu.Lock()
	v, missing, err := s.versions[key], s.missing[key], s.err
	s.mu.Unlock()
	if hold := s.hold.Load(); hold != nil {
		(*hold)(key, v)
	}
	switch {
	case err != nil:
		return 0, err
	case missing:
		return 0, ErrNotFound
	}
	return v, nil
}

// holdNext makes the next load stop after it has read its version. It returns a channel that is closed when the load has
// read, and a function that lets it go on.
func (s *source) holdNext() (read <-chan struct{}, letGo func()) {
	reached, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	hold := func(string, int) {
		first := false
		once.Do(func() { first = true })
		if first {
			close(reached)
			<-gate
		}
	}
	s.hold.Store(&hold)
	return reached, sync.OnceFunc(func() { close(gate) })
}

// redisServer is the rig of a single Redis, a miniredis.
type redisServer struct {
	naming
	*miniredis.Miniredis
	t    testing.TB
	addr string       // also while it is closed
	away net.Listener // in its place, while it is closed
	hook atomic.Pointer[func(cmd string, args []string) error]
}

func newRedis(t testing.TB) *redisServer {
	t.Helper()
	s := &redisServer{naming: naming{cache: "things"}, Miniredis: miniredis.RunT(t), t: t}
	s.addr = s.Addr()
	s.watch()
	return s
}

// watch has the server that there is now obey intercept.
func (s *redisServer) watch() {
	s.Server().SetPreHook(func(p *server.Peer, cmd string, args ...string) bool {
		hook := s.hook.Load()
		if hook == nil {
			return false
		}
		if err := (*hook)(cmd, args); err != nil {
			if errors.Is(err, io.EOF) {
				p.Close()
			} else {
				p.WriteError(err.Error())
			}
			return true
		}
		return false
	})
}

func (s *redisServer) intercept(f func(cmd string, args []string) error) { s.hook.Store(&f) }

func (s *redisServer) down() { s.intercept(func(string, []string) error { return io.EOF }) }
func (s *redisServer) up()   { s.hook.Store(nil) }

// close has nobody else get its port, as another test's server would.
func (s *redisServer) close() {
	s.t.Helper()
	s.Close()
	away, err := port.Listen(s.addr)
	require.NoError(s.t, err)
	s.away = away
	s.t.Cleanup(func() { _ = away.Close() })
	go func() {
		for {
			conn, err := away.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
}

func (s *redisServer) restart() {
	s.t.Helper()
	require.NoError(s.t, s.away.Close())
	require.NoError(s.t, port.Use(s.Restart))
	s.watch()
}

func (s *redisServer) client(t testing.TB) redis.UniversalClient {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: s.addr})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func (s *redisServer) masters() int            { return 1 }
func (s *redisServer) mastersOf(...string) int { return 1 }

func (s *redisServer) exists(name string) bool        { return s.Exists(name) }
func (s *redisServer) ttl(name string) time.Duration  { return s.TTL(name) }
func (s *redisServer) del(name string) bool           { return s.Del(name) }
func (s *redisServer) hget(name, field string) string { return s.HGet(name, field) }
func (s *redisServer) hset(name, field, value string) { s.HSet(name, field, value) }
func (s *redisServer) publish(key, message string)    { s.Publish(s.channel(key), message) }

func (s *redisServer) set(name, value string) {
	s.t.Helper()
	require.NoError(s.t, s.Set(name, value))
}

func (s *redisServer) eval(script string, keys []string, args ...any) {
	s.t.Helper()
	require.NoError(s.t, s.client(s.t).Eval(soon(s.t), script, keys, args...).Err())
}

// instance returns a cache of the source, connected unless lazy.
func instance(t testing.TB, r rig, s *source, change ...func(*Options[int])) *Cache[int] {
	t.Helper()
	c := lazyInstance(t, r, s, change...)
	require.NoError(t, c.Ready(soon(t)))
	return c
}

func lazyInstance(t testing.TB, r rig, s *source, change ...func(*Options[int])) *Cache[int] {
	t.Helper()
	// A machine that is busy with other tests keeps Redis waiting for longer than the default.
	opts := Options[int]{Load: s.load, LocalBytes: 2 << 20, RedisTimeout: 2 * time.Second, Logger: quietLog()}
	for _, f := range change {
		f(&opts)
	}
	c, err := New(r.client(t), r.name(), opts)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func fleet(t testing.TB, n int, r rig, s *source, change ...func(*Options[int])) []*Cache[int] {
	t.Helper()
	out := make([]*Cache[int], n)
	for i := range out {
		out[i] = instance(t, r, s, change...)
	}
	return out
}

func get(t testing.TB, c *Cache[int], key string) int {
	t.Helper()
	v, err := c.Get(soon(t), key)
	require.NoError(t, err)
	return v
}

// result is what a Get on another goroutine came to.
type result struct {
	val int
	err error
}

func getAsync(ctx context.Context, c *Cache[int], key string) <-chan result {
	return async(func() (int, error) { return c.Get(ctx, key) })
}

func async(call func() (int, error)) <-chan result {
	out := make(chan result, 1)
	go func() {
		v, err := call()
		out <- result{v, err}
	}()
	return out
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

// raise makes most at least n.
func raise(most *atomic.Int64, n int64) {
	for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
	}
}

// keysNamed are those of all the KeysErrors that are joined.
func keysNamed(t testing.TB, joined error) (keys []string) {
	t.Helper()
	for _, err := range joined.(interface{ Unwrap() []error }).Unwrap() {
		var k *KeysError
		require.ErrorAs(t, err, &k)
		keys = append(keys, k.Keys...)
	}
	return keys
}

func keyName(i int) string { return fmt.Sprintf("user:%d", i) }

// isScript reports whether a command runs a script, no heartbeat's, whose number of keys and arguments is as given; scripts
// are told apart by their shape because the server sees them as a hash.
func isScript(cmd string, args []string, keys, argv int) bool {
	return (cmd == "EVALSHA" || cmd == "EVAL") && len(args) == 2+keys+argv && args[1] == fmt.Sprint(keys) && !isBeat(cmd, args)
}

func isSet(cmd string, args []string) bool { return isScript(cmd, args, 2, 7) }
func isInvalidate(cmd string, args []string) bool {
	return isScript(cmd, args, 1, 2)
}

// isInvalidateAll is for a script whose first argument is a version. That of one which gives a lease up is a channel.
func isInvalidateAll(cmd string, args []string) bool {
	return isScript(cmd, args, 1, 4) && !strings.HasPrefix(args[3], "tandem:")
}

func isBeat(cmd string, args []string) bool {
	return (cmd == "EVALSHA" || cmd == "EVAL") && len(args) > 2 && probe.MatchString(args[2])
}

// holdBeats keeps heartbeats from Redis until they are let go.
func holdBeats(r rig) (letGo func()) {
	gate := make(chan struct{})
	r.intercept(func(cmd string, args []string) error {
		if isBeat(cmd, args) {
			<-gate
		}
		return nil
	})
	return sync.OnceFunc(func() {
		r.up()
		close(gate)
	})
}

// probe is the key of an instance's heartbeat, in a cluster that of a partition.
var probe = regexp.MustCompile(`^tandem:(\{[a-z0-9]+\}:)?probe:`)

// trustsRedis waits until what is read from Redis is kept: the first heartbeat may have been sent before the subscription was there.
func trustsRedis(t testing.TB, caches ...*Cache[int]) {
	t.Helper()
	for _, c := range caches {
		eventually(t, "nothing is in doubt", func() bool { return keeps(c) })
	}
}
