package remote

import (
	"context"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/partition"
	"github.com/tandemcache/tandem/tests/leak"
	"github.com/tandemcache/tandem/tests/redisserver"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience is how long a test waits for something that must happen.
const patience = 10 * time.Second

const (
	db  = 0
	ttl = time.Minute
	// maxBytes is the longest value that Acquire hands out.
	maxBytes = 1 << 20
	key      = "42"
)

var (
	schemaA = Schema{Codec: "cbor", Type: 0xa}
	schemaB = Schema{Codec: "json", Type: 0xb}
)

// fixture is a cache in some Redis: two stores on it, for two releases, and the client to look behind them.
type fixture struct {
	*testing.T
	rdb  *redis.Client
	keys Keys
	a, b *Store
}

// servers are what every behaviour of a script is tested on.
var servers = []struct {
	name  string
	start func(t *testing.T) *redis.Client
}{
	{"miniredis", func(t *testing.T) *redis.Client {
		t.Helper()
		return newClient(t, miniredis.RunT(t).Addr())
	}},
	{"redis", func(t *testing.T) *redis.Client {
		t.Helper()
		return newClient(t, redisserver.Run(t, redisserver.Options{}).Addr())
	}},
	{"cluster", func(t *testing.T) *redis.Client {
		t.Helper()
		return newNode(t, redisserver.RunCluster(t, redisserver.ClusterOptions{Masters: 1, Replicas: -1}))
	}},
}

// partTagOfTests is the hash tag of the partition that tests on a cluster use.
const partTagOfTests = "1f"

// onlyPartition returns the keys of a cache that has one partition, in a cluster; so tests on one may name any keys.
func onlyPartition(name, tag string) Keys {
	return Keys{name: name, parts: []part{partOf(partPrefix + name + partTag + tag)}, sharded: true}
}

// only is the number of the partition where there is one.
var only = []int{0}

// clustered are the clients of nodes of a cluster.
var clustered sync.Map

// newNode returns a client of the master that has the partition of the tests.
func newNode(t *testing.T, c *redisserver.Cluster) *redis.Client {
	t.Helper()
	node, err := c.Master(partition.Slot(partTagOfTests))
	require.NoError(t, err)
	rdb := newClient(t, node.Addr())
	clustered.Store(rdb, true)
	return rdb
}

func newClient(t *testing.T, addr string) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, ContextTimeoutEnabled: true})
	t.Cleanup(func() { require.NoError(t, rdb.Close()) })
	return rdb
}

// newFixture makes a cache that no other test uses, and checks at the test's end what must hold after any operation.
func newFixture(t *testing.T, rdb *redis.Client) *fixture {
	t.Helper()
	keys, err := KeysFor("c-" + string(NewToken()))
	require.NoError(t, err)
	if _, ok := clustered.Load(rdb); ok {
		keys = onlyPartition("c-"+string(NewToken()), partTagOfTests)
	}
	return newFixtureWith(t, rdb, keys)
}

func newFixtureWith(t *testing.T, rdb *redis.Client, keys Keys) *fixture {
	t.Helper()
	f := &fixture{
		T: t, rdb: rdb, keys: keys,
		a: New(rdb, Options{Keys: keys, Schema: schemaA, DB: db, MaxBytes: maxBytes}), b: New(rdb, Options{Keys: keys, Schema: schemaB, DB: db, MaxBytes: maxBytes}),
	}
	t.Cleanup(func() { f.checkTTLs() })
	return f
}

// checkTTLs is the invariant of every operation: nothing of a cache stays in Redis for ever.
func (f *fixture) checkTTLs() {
	f.Helper()
	ctx := context.Background()
	for _, p := range f.keys.parts {
		scan := f.rdb.Scan(ctx, 0, p.prefix+"*", 1000).Iterator()
		for scan.Next(ctx) {
			left, err := f.rdb.PTTL(ctx, scan.Val()).Result()
			require.NoError(f, err)
			require.NotEqual(f, time.Duration(-1), left, "%.80q has no TTL", scan.Val()) // it may have expired meanwhile
		}
		require.NoError(f, scan.Err())
	}
}

func (f *fixture) ctx() context.Context {
	f.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	f.Cleanup(cancel)
	return ctx
}

// field returns what a field of the entry of key holds, "" if there is none.
func (f *fixture) field(name string) string {
	f.Helper()
	v, err := f.rdb.HGet(f.ctx(), f.keys.Entry(key), name).Result()
	if err != nil {
		require.ErrorIs(f, err, redis.Nil)
	}
	return v
}

func (f *fixture) fields() map[string]string {
	f.Helper()
	all, err := f.rdb.HGetAll(f.ctx(), f.keys.Entry(key)).Result()
	require.NoError(f, err)
	return all
}

func (f *fixture) exists(redisKey string) bool {
	f.Helper()
	n, err := f.rdb.Exists(f.ctx(), redisKey).Result()
	require.NoError(f, err)
	return n == 1
}

func (f *fixture) pttl(redisKey string) time.Duration {
	f.Helper()
	d, err := f.rdb.PTTL(f.ctx(), redisKey).Result()
	require.NoError(f, err)
	return d
}

// requireTTL requires that the entry's key has about this much left.
func (f *fixture) requireTTL(want time.Duration) {
	f.Helper()
	left := f.pttl(f.keys.Entry(key))
	require.LessOrEqual(f, left, want)
	require.Greater(f, left, want-patience)
}

// now is the time of Redis in ms.
func (f *fixture) now() int64 {
	f.Helper()
	t, err := f.rdb.Time(f.ctx()).Result()
	require.NoError(f, err)
	return t.UnixMilli()
}

func (f *fixture) epochInRedis() string {
	f.Helper()
	stored, err := f.rdb.Get(f.ctx(), f.keys.Epoch(0)).Result()
	require.NoError(f, err)
	e, err := ParseStoredEpoch(stored)
	require.NoError(f, err)
	return EpochText(e)
}

// setEpoch stores an epoch with a note of the heartbeat's.
func (f *fixture) setEpoch(epoch string) {
	f.Helper()
	require.NoError(f, f.rdb.Set(f.ctx(), f.keys.Epoch(0), epoch+epochNote, time.Hour).Err())
}

const epochNote = ":0123abcd="

// acquire takes the lease, which must be free.
func (f *fixture) acquire(s *Store, token Token) Lease {
	f.Helper()
	return f.take(s, token, Wanted, "inbox-of-holder")
}

// refresh takes a lease although there may be a value.
func (f *fixture) refresh(s *Store, token Token) Lease {
	f.Helper()
	return f.take(s, token, Unwanted, "inbox")
}

func (f *fixture) take(s *Store, token Token, seen Seen, inbox string) Lease {
	f.Helper()
	l, err := s.Acquire(f.ctx(), key, token, seen, ttl, inbox)
	require.NoError(f, err)
	require.Equal(f, Acquired, l.Outcome)
	return l
}

// wait asks for the lease while somebody else holds it.
func (f *fixture) wait(s *Store, inbox string) {
	f.Helper()
	l, err := s.Acquire(f.ctx(), key, NewToken(), Wanted, ttl, inbox)
	require.NoError(f, err)
	require.Equal(f, Held, l.Outcome)
}

// put stores a value as a load would.
func (f *fixture) put(s *Store, value string, life time.Duration) {
	f.Helper()
	token := NewToken()
	l := f.acquire(s, token)
	f.fill(s, token, value, life, l.Epoch, true)
}

func (f *fixture) fill(s *Store, token Token, value string, life time.Duration, epoch uint64, want bool) {
	f.Helper()
	stored, err := s.Fill(f.ctx(), key, token, []byte(value), life, epoch, []byte("filled"))
	require.NoError(f, err)
	require.Equal(f, want, stored)
}

func (f *fixture) requireValue(s *Store, want string) {
	f.Helper()
	v, err := s.Get(f.ctx(), key)
	require.NoError(f, err)
	require.Equal(f, want, string(v))
}

func (f *fixture) requireNothing(s *Store) {
	f.Helper()
	v, err := s.Get(f.ctx(), key)
	require.NoError(f, err)
	require.Nil(f, v)
}

var leasePattern = regexp.MustCompile(`^[0-9]{13}:[0-9a-f]{32}$`)

// requireLease requires that token holds the lease of s, for about that long.
func (f *fixture) requireLease(s *Store, token Token, life time.Duration) {
	f.Helper()
	lease := f.field(s.field + leaseSuffix)
	require.Regexp(f, leasePattern, lease)
	require.Equal(f, string(token), lease[14:])
	left := time.Duration(parseMs(f.T, lease[:13])-f.now()) * time.Millisecond
	require.LessOrEqual(f, left, life)
	require.Greater(f, left, life-patience)
}

func (f *fixture) requireNoLease(s *Store) {
	f.Helper()
	require.Empty(f, f.field(s.field+leaseSuffix))
	require.Empty(f, f.field(s.field+waiterSuffix))
}

func parseMs(t *testing.T, s string) int64 {
	t.Helper()
	d, err := time.ParseDuration(s + "ms")
	require.NoError(t, err)
	return d.Milliseconds()
}

// ears hear what is published on channels.
type ears struct {
	f    *fixture
	ps   *redis.PubSub
	mark string
	said chan *redis.Message
}

// listen returns when the channels are subscribed. Somebody has to read at all times: a miniredis that publishes waits for it.
func (f *fixture) listen(channels ...string) *ears {
	f.Helper()
	e := &ears{f: f, mark: channels[0] + ":mark-" + string(NewToken()), said: make(chan *redis.Message, 100_000)}
	if f.keys.sharded {
		e.ps = f.rdb.SSubscribe(f.ctx())
		for _, channel := range append(channels, e.mark) { // one at a time, as they may be in several slots
			require.NoError(f, e.ps.SSubscribe(f.ctx(), channel))
		}
	} else {
		e.ps = f.rdb.Subscribe(f.ctx(), append(channels, e.mark)...)
	}
	for range len(channels) + 1 {
		_, err := e.ps.Receive(f.ctx())
		require.NoError(f, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			m, err := e.ps.Receive(context.Background())
			if err != nil {
				return
			}
			if m, ok := m.(*redis.Message); ok {
				e.said <- m
			}
		}
	}()
	f.Cleanup(func() {
		_ = e.ps.Close()
		<-done
	})
	return e
}

// heard returns what has been published since the last call, as "channel message". Messages keep their order, so all of it
// comes before one that is published now.
func (e *ears) heard() []string {
	e.f.Helper()
	mark := string(NewToken())
	publish := e.f.rdb.Publish
	if e.f.keys.sharded {
		publish = e.f.rdb.SPublish
	}
	require.NoError(e.f, publish(e.f.ctx(), e.mark, mark).Err())
	out := []string{}
	for {
		select {
		case m := <-e.said:
			if m.Channel == e.mark && m.Payload == mark {
				return out
			}
			out = append(out, m.Channel+" "+m.Payload)
		case <-e.f.ctx().Done():
			require.Fail(e.f, "a message that was published was not heard")
		}
	}
}

// next waits for the next message.
func (e *ears) next() string {
	e.f.Helper()
	select {
	case m := <-e.said:
		return m.Channel + " " + m.Payload
	case <-time.After(patience):
		require.Fail(e.f, "nothing heard")
		return ""
	}
}

func (f *fixture) channel() string { return f.keys.Channel(0, db) }

// wrongTypes puts each Redis type that is no hash under a key.
var wrongTypes = map[string]func(ctx context.Context, rdb *redis.Client, key string) error{
	"string": func(ctx context.Context, rdb *redis.Client, key string) error { return rdb.Set(ctx, key, "x", 0).Err() },
	"list":   func(ctx context.Context, rdb *redis.Client, key string) error { return rdb.RPush(ctx, key, "x").Err() },
	"set":    func(ctx context.Context, rdb *redis.Client, key string) error { return rdb.SAdd(ctx, key, "x").Err() },
	"zset": func(ctx context.Context, rdb *redis.Client, key string) error {
		return rdb.ZAdd(ctx, key, redis.Z{Member: "x"}).Err()
	},
	"stream": func(ctx context.Context, rdb *redis.Client, key string) error {
		return rdb.XAdd(ctx, &redis.XAddArgs{Stream: key, Values: []string{"x", "y"}}).Err()
	},
}

// everyByte is a string that no protocol in between may take offence at.
func everyByte() string {
	var b strings.Builder
	for i := range 256 {
		b.WriteByte(byte(i))
	}
	return b.String() + "\r\n}:k:{ % \x00"
}
