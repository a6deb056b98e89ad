package integration

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered"
)

const thing = "tandem:{things}:k:a"

func tracking(o *tiered.Options[Value]) { o.Tracking, o.MaxStaleness = true, 10*time.Second }

// tracked returns an instance to which Redis tells changes, and a client that belongs to somebody else.
func tracked(t *testing.T, change ...func(*tiered.Options[Value])) (*tiered.Cache[Value], *source, *redis.Client) {
	t.Helper()
	srv, s := startRedis(t), newSource(0)
	stranger := client(t, srv)
	c := instance(t, srv, s, append(change, tracking)...)
	requireTracked(t, stranger)
	// Its connection's beginning drops L1; from then on it holds what it has loaded.
	eventually(t, "an entry that stays", func() bool {
		get(t, c, "a")
		hits := c.Stats().LocalHits
		get(t, c, "a")
		return c.Stats().LocalHits > hits
	})
	return c, s, stranger
}

func requireTracked(t *testing.T, rdb *redis.Client) {
	t.Helper()
	eventually(t, "a tracking client", func() bool {
		info, err := rdb.Info(context.Background(), "clients").Result()
		return err == nil && strings.Contains(info, "tracking_clients:1\r\n")
	})
}

// follows asks until the cache answers what the source says now; LocalTTL is a minute.
func follows(t *testing.T, c *tiered.Cache[Value], s *source, key string) {
	t.Helper()
	want := s.read(key).Version
	eventually(t, "the new version", func() bool { return get(t, c, key) == want })
}

func TestAStrangersWriteReachesL1(t *testing.T) {
	for name, change := range map[string]func(ctx context.Context, rdb *redis.Client) error{
		"DEL":      func(ctx context.Context, rdb *redis.Client) error { return rdb.Del(ctx, thing).Err() },
		"UNLINK":   func(ctx context.Context, rdb *redis.Client) error { return rdb.Unlink(ctx, thing).Err() },
		"RENAME":   func(ctx context.Context, rdb *redis.Client) error { return rdb.Rename(ctx, thing, "gone").Err() },
		"SET":      func(ctx context.Context, rdb *redis.Client) error { return rdb.Set(ctx, thing, "mine", 0).Err() },
		"expiry":   func(ctx context.Context, rdb *redis.Client) error { return rdb.PExpire(ctx, thing, 1).Err() },
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

// Every lease and fill of our own comes back as an event; none of them costs an entry.
func TestOurOwnWritesAreNoStrangers(t *testing.T) {
	c, s, stranger := tracked(t)
	other, err := tiered.New(stranger, "things", tiered.Options[Value]{Load: s.load, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = other.Close() })
	require.NoError(t, other.Ready(soon(t)))
	before := c.Stats()
	keys := []string{"b", "c", "d"}
	for _, key := range keys {
		get(t, c, key)
		get(t, other, key)
		_, err := other.Refresh(soon(t), key)
		require.NoError(t, err)
	}
	// What is asked about is asked about in order: when this is gone, the others have been looked at.
	s.write("a")
	require.NoError(t, stranger.Del(soon(t), thing).Err())
	follows(t, c, s, "a")
	hits := c.Stats().LocalHits
	for _, key := range keys {
		get(t, c, key)
	}
	require.EqualValues(t, len(keys), c.Stats().LocalHits-hits)
	require.EqualValues(t, 1, c.Stats().Tracked-before.Tracked)
}

// What is removed while the connection is broken is made good when it is back.
func TestTrackingThatBreaks(t *testing.T) {
	c, s, stranger := tracked(t)
	for range 3 {
		s.write("a")
		require.NoError(t, stranger.ClientKillByFilter(soon(t), "TYPE", "pubsub").Err())
		require.NoError(t, stranger.Del(soon(t), thing).Err())
		follows(t, c, s, "a")
		requireTracked(t, stranger)
	}
}

// Where tracking is not allowed, the cache is as good as without it.
func TestTrackingThatIsForbidden(t *testing.T) {
	srv, s := startRedis(t), newSource(0)
	stranger := client(t, srv)
	require.NoError(t, stranger.Do(soon(t), "ACL", "SETUSER", "default", "-client|tracking").Err())
	c := instance(t, srv, s, tracking)
	get(t, c, "a")
	before := c.Stats()
	for range 100 {
		get(t, c, "a")
	}
	require.EqualValues(t, 100, c.Stats().LocalHits-before.LocalHits)
	s.write("a")
	require.NoError(t, c.Invalidate(soon(t), "a"))
	require.EqualValues(t, 1, get(t, c, "a"))
}
