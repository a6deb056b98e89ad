package integration

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered"
)

const thing = "tandem:{things}:k:a"

// tracking leaves it to what Redis tells that anything leaves L1, on a machine that is busy with other tests as well.
func tracking(o *tiered.Options[Value]) {
	calm(o)
	o.Tracking = true
}

// tracked returns an instance to which Redis tells changes, and a client that belongs to somebody else.
func tracked(t *testing.T, change ...func(*tiered.Options[Value])) (*tiered.Cache[Value], *source, *redis.Client) {
	t.Helper()
	srv, s := startRedis(t), newSource(0)
	stranger := client(t, srv)
	c := instance(t, srv, s, append(change, tracking)...)
	eventually(t, "tracking", func() bool { return c.Health().Tracking })
	get(t, c, "a")
	return c, s, stranger
}

// tracker returns the id of the connection on which an instance is told, 0 if there is none.
func tracker(t *testing.T, rdb *redis.Client) (id string) {
	t.Helper()
	list, err := rdb.ClientList(soon(t)).Result()
	require.NoError(t, err)
	for line := range strings.Lines(list) {
		var flags, of string
		for field := range strings.FieldsSeq(line) {
			if v, ok := strings.CutPrefix(field, "flags="); ok {
				flags = v
			}
			if v, ok := strings.CutPrefix(field, "id="); ok {
				of = v
			}
		}
		if strings.Contains(flags, "B") {
			id = of
		}
	}
	return id
}

// follows asks until the cache answers what the source says now; LocalTTL is a minute.
func follows(t *testing.T, c *tiered.Cache[Value], s *source, key string) {
	t.Helper()
	want := s.read(key).Version
	eventually(t, "the new version", func() bool { return get(t, c, key) == want })
}

func TestAStrangersWriteReachesL1(t *testing.T) {
	for name, change := range map[string]func(ctx context.Context, rdb *redis.Client) error{
		"DEL":    func(ctx context.Context, rdb *redis.Client) error { return rdb.Del(ctx, thing).Err() },
		"UNLINK": func(ctx context.Context, rdb *redis.Client) error { return rdb.Unlink(ctx, thing).Err() },
		"RENAME": func(ctx context.Context, rdb *redis.Client) error { return rdb.Rename(ctx, thing, "gone").Err() },
		"SET":    func(ctx context.Context, rdb *redis.Client) error { return rdb.Set(ctx, thing, "mine", 0).Err() },
		"HSET": func(ctx context.Context, rdb *redis.Client) error {
			fields, err := rdb.HKeys(ctx, thing).Result()
			for _, field := range fields {
				err = errors.Join(err, rdb.HSet(ctx, thing, field, "mine").Err())
			}
			return err
		},
		"expiry": func(ctx context.Context, rdb *redis.Client) error {
			return rdb.PExpire(ctx, thing, time.Millisecond).Err()
		},
		"FLUSHALL": func(ctx context.Context, rdb *redis.Client) error { return rdb.FlushAll(ctx).Err() },
		"a script": func(ctx context.Context, rdb *redis.Client) error {
			return rdb.Eval(ctx, "return redis.call('DEL', KEYS[1])", []string{thing}).Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, s, stranger := tracked(t)
			for range 3 {
				s.write("a")
				require.NoError(t, change(soon(t), stranger))
				follows(t, c, s, "a")
				if name == "SET" {
					require.NoError(t, stranger.Del(soon(t), thing).Err())
				}
			}
		})
	}
}

// Every lease and fill of our own comes back as a message; none of them costs an entry.
func TestOurOwnWritesAreNoStrangers(t *testing.T) {
	c, s, stranger := tracked(t)
	other, err := tiered.New(stranger, "things", tiered.Options[Value]{
		Load: s.load, RedisTimeout: unhurried, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = other.Close() })
	require.NoError(t, other.Ready(soon(t)))
	warm := stored(t, other)
	eventually(t, "what is read from Redis is kept", func() bool {
		hits := c.Stats().LocalHits
		get(t, c, warm)
		return c.Stats().LocalHits > hits
	})
	get(t, c, "a") // into L1, wherever it was
	before := c.Stats()
	keys := []string{"b", "c", "d", "e", "f"}
	for _, key := range keys {
		get(t, c, key)
		get(t, c, key)
		get(t, other, key)
		_, err := other.Refresh(soon(t), key)
		require.NoError(t, err)
	}
	require.EqualValues(t, len(keys), c.Stats().LocalHits-before.LocalHits, "what was loaded is a hit from then on")
	// Messages come in order, and what is asked about with another key is asked about at once: when this is gone, so are the
	// others that were to go.
	s.write("a")
	require.NoError(t, stranger.Del(soon(t), thing).Err())
	follows(t, c, s, "a")
	hits := c.Stats().LocalHits
	for _, key := range keys {
		get(t, c, key)
	}
	require.EqualValues(t, len(keys), c.Stats().LocalHits-hits)
	require.EqualValues(t, 1, c.Stats().Tracked-before.Tracked)
	require.EqualValues(t, len(keys)+1, c.Stats().Loads-before.Loads)
}

// A load under way when the key is removed is the answer to who waits for it, and kept nowhere.
func TestAStrangersDeleteDuringALoad(t *testing.T) {
	c, s, stranger := tracked(t)
	for range 10 {
		require.NoError(t, c.Invalidate(soon(t), "a"))
		read, letGo := s.holdNext()
		got := make(chan Value, 1)
		go func() {
			v, _ := c.Get(context.Background(), "a")
			got <- v
		}()
		<-read
		s.write("a")
		require.NoError(t, stranger.Del(soon(t), thing).Err())
		letGo()
		<-got
		require.Equal(t, s.read("a").Version, get(t, c, "a"))
	}
}

// What is removed while the connection is broken is made good when it is back.
func TestTrackingThatBreaks(t *testing.T) {
	c, s, stranger := tracked(t)
	for range 3 {
		sessions := c.Stats().Sessions
		s.write("a")
		id := tracker(t, stranger)
		require.NotEmpty(t, id)
		_, err := stranger.TxPipelined(soon(t), func(p redis.Pipeliner) error {
			p.ClientKillByFilter(t.Context(), "ID", id)
			p.Del(t.Context(), thing)
			return nil
		})
		require.NoError(t, err)
		follows(t, c, s, "a")
		eventually(t, "tracking again", func() bool {
			now := tracker(t, stranger)
			return now != "" && now != id && c.Health().Tracking
		})
		get(t, c, "a")
		require.Equal(t, sessions, c.Stats().Sessions, "the bus' subscription has not helped")
	}
}

// Where tracking is not allowed, the cache is as good as without it, and says so.
func TestTrackingThatIsForbidden(t *testing.T) {
	srv, s := startRedis(t), newSource(0)
	stranger := client(t, srv)
	require.NoError(t, stranger.Do(soon(t), "ACL", "SETUSER", "default", "-client|tracking").Err())
	var log lines
	c := instance(t, srv, s, tracking, func(o *tiered.Options[Value]) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	eventually(t, "a word about it", func() bool { return strings.Contains(log.String(), "NOPERM") })
	require.False(t, c.Health().Tracking)
	get(t, c, "a")
	before := c.Stats()
	for range 100 {
		get(t, c, "a")
	}
	require.EqualValues(t, 100, c.Stats().LocalHits-before.LocalHits)
	s.write("a")
	require.NoError(t, c.Invalidate(soon(t), "a"))
	require.EqualValues(t, 1, get(t, c, "a"))

	require.NoError(t, stranger.Do(soon(t), "ACL", "SETUSER", "default", "+client|tracking").Err())
	eventually(t, "tracking", func() bool { return c.Health().Tracking })
	s.write("a")
	require.NoError(t, stranger.Del(soon(t), thing).Err())
	follows(t, c, s, "a")
}

// lines is a log that may be read while it is written.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Close does not wait for a server that has stopped to answer, be the connection made or not.
func TestCloseWhileTrackingHangs(t *testing.T) {
	c, s, stranger := tracked(t)
	srv := startRedis(t)
	require.NoError(t, srv.Pause())
	opts := tiered.Options[Value]{
		Load: s.load, Tracking: true, MaxStaleness: time.Second, CloseTimeout: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	}
	unmade, err := tiered.New(client(t, srv), "things", opts)
	require.NoError(t, err)
	got, err := unmade.Get(soon(t), "a") // it has tried by then
	require.NoError(t, err)
	require.Zero(t, got.Version)
	for name, c := range map[string]*tiered.Cache[Value]{"made": c, "not made": unmade} {
		closed := make(chan error, 1)
		go func() { closed <- c.Close() }()
		select {
		case err := <-closed:
			require.NoError(t, err)
		case <-time.After(patience / 2):
			require.Fail(t, name)
		}
	}
	eventually(t, "nobody is told any more", func() bool { return tracker(t, stranger) == "" })
}
