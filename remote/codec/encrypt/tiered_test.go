package encrypt_test

import (
	"context"
	"log/slog"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote"
	"github.com/tandemcache/tandem/remote/codec"
	"github.com/tandemcache/tandem/remote/codec/compress"
	"github.com/tandemcache/tandem/tiered"
)

type user struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
}

var (
	stored     = user{1, "Ann, whose name nobody shall read"}
	fromSource = user{1, "from the source"}
)

// fleet makes instances of caches, without L1, so that every Get reads Redis.
type fleet struct {
	*miniredis.Miniredis

	loads int
}

func (f *fleet) instance(t *testing.T, name string, c codec.Codec) *tiered.Cache[user] {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: f.Addr()})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	cache, err := tiered.New(client, name, tiered.Options[user]{
		Codec: c, LocalTTL: tiered.Off, RedisTimeout: 10 * time.Second, MaxStaleness: 10 * time.Second, LeaseWait: tiered.Off,
		Logger: slog.New(slog.DiscardHandler),
		Load: func(context.Context, string) (user, error) {
			f.loads++ // the test calls Get on one goroutine, which waits for the loader
			return fromSource, nil
		},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cache.Close()) })
	require.NoError(t, cache.Ready(t.Context()))
	return cache
}

// entry returns the Redis key of an entry and its only field.
func (f *fleet) entry(t *testing.T, cache, key string) (redisKey, field string) {
	t.Helper()
	keys, err := remote.KeysFor(cache)
	require.NoError(t, err)
	fields, err := f.HKeys(keys.Entry(key))
	require.NoError(t, err)
	require.Len(t, fields, 1)
	return keys.Entry(key), fields[0]
}

// forge puts the payload of one entry into the envelope of another, with a checksum that holds, as an attacker would.
func (f *fleet) forge(t *testing.T, fromCache, fromKey, toCache, toKey string, change func(*remote.Envelope)) {
	t.Helper()
	redisKey, field := f.entry(t, fromCache, fromKey)
	env, err := remote.Decode([]byte(f.HGet(redisKey, field)), fromKey)
	require.NoError(t, err)
	to, err := remote.KeysFor(toCache)
	require.NoError(t, err)
	if epoch, err := f.Get(to.Epoch(0)); err == nil {
		env.Epoch = parseEpoch(t, epoch)
	}
	change(&env)
	b, err := env.Encode(toKey)
	require.NoError(t, err)
	f.HSet(to.Entry(toKey), env.Schema.Field(), string(b))
}

func get(t *testing.T, c *tiered.Cache[user], key string) user {
	t.Helper()
	u, err := c.Get(t.Context(), key)
	require.NoError(t, err)
	return u
}

func TestTiered_RoundTrip(t *testing.T) {
	t.Parallel()
	f := &fleet{Miniredis: miniredis.RunT(t)}
	z, err := compress.New(codec.Default, compress.Options{Threshold: 1})
	require.NoError(t, err)
	for _, inner := range []codec.Codec{codec.Default, z} {
		c := encrypting(t, inner, newKey(t, "a", 1))
		a, b := f.instance(t, "users", c), f.instance(t, "users", c)
		require.NoError(t, a.Set(t.Context(), "1", stored))
		require.Equal(t, stored, get(t, b, "1"))
		require.Zero(t, f.loads)
		redisKey, field := f.entry(t, "users", "1")
		require.NotContains(t, f.HGet(redisKey, field), "Ann")
	}
}

func TestTiered_MovedEntryIsAMiss(t *testing.T) {
	t.Parallel()
	f := &fleet{Miniredis: miniredis.RunT(t)}
	c := encrypting(t, codec.Default, newKey(t, "a", 1))
	users, admins := f.instance(t, "users", c), f.instance(t, "admins", c)
	require.NoError(t, users.Set(t.Context(), "1", stored))

	// The forgery works where nothing but the bytes of the same entry is put back, so it is well made.
	f.forge(t, "users", "1", "users", "1", func(*remote.Envelope) {})
	require.Equal(t, stored, get(t, users, "1"))
	require.Zero(t, f.loads)

	f.forge(t, "users", "1", "users", "2", func(*remote.Envelope) {})
	require.Equal(t, fromSource, get(t, users, "2"), "another key")
	f.forge(t, "users", "1", "admins", "1", func(*remote.Envelope) {})
	require.Equal(t, fromSource, get(t, admins, "1"), "another cache")
	require.Equal(t, 2, f.loads)

	// The misses were replaced.
	require.Equal(t, fromSource, get(t, users, "2"))
	require.Equal(t, fromSource, get(t, admins, "1"))
	require.Equal(t, 2, f.loads)
	require.NotZero(t, users.Stats().BadEntries)
	require.NotZero(t, admins.Stats().BadEntries)
}

func TestTiered_TruncatedIsAMiss(t *testing.T) {
	t.Parallel()
	f := &fleet{Miniredis: miniredis.RunT(t)}
	users := f.instance(t, "users", encrypting(t, codec.Default, newKey(t, "a", 1)))
	require.NoError(t, users.Set(t.Context(), "1", stored))
	f.forge(t, "users", "1", "users", "1", func(e *remote.Envelope) { e.Payload = e.Payload[:len(e.Payload)-1] })
	require.Equal(t, fromSource, get(t, users, "1"))
	require.Equal(t, 1, f.loads)
}

func TestTiered_UnknownKeyIsAMiss(t *testing.T) {
	t.Parallel()
	f := &fleet{Miniredis: miniredis.RunT(t)}
	before := f.instance(t, "users", encrypting(t, codec.Default, newKey(t, "a", 1)))
	after := f.instance(t, "users", encrypting(t, codec.Default, newKey(t, "b", 2)))
	require.NoError(t, before.Set(t.Context(), "1", stored))
	require.Equal(t, fromSource, get(t, after, "1"))
	require.Equal(t, fromSource, get(t, after, "1"))
	require.Equal(t, 1, f.loads, "replaced under its own key")
}

// TestTiered_RotationCostsNoLoad is the rotation of the package comment, with two releases at any time.
func TestTiered_RotationCostsNoLoad(t *testing.T) {
	t.Parallel()
	f := &fleet{Miniredis: miniredis.RunT(t)}
	first, second := newKey(t, "a", 1), newKey(t, "b", 2)
	releases := []*tiered.Cache[user]{
		f.instance(t, "users", encrypting(t, codec.Default, first)),
		f.instance(t, "users", encrypting(t, codec.Default, first, second)),
		f.instance(t, "users", encrypting(t, codec.Default, second, first)),
	}
	for i := 1; i < len(releases); i++ {
		for _, writer := range releases[i-1 : i+1] {
			require.NoError(t, writer.Set(t.Context(), "1", stored))
			for _, reader := range releases[i-1 : i+1] {
				require.Equal(t, stored, get(t, reader, "1"))
			}
		}
	}
	require.Zero(t, f.loads)
}

// TestTiered_LivesBesideClearEntries is a rolling deploy that turns encryption on.
func TestTiered_LivesBesideClearEntries(t *testing.T) {
	t.Parallel()
	f := &fleet{Miniredis: miniredis.RunT(t)}
	before := f.instance(t, "users", nil)
	after := f.instance(t, "users", encrypting(t, codec.Default, newKey(t, "a", 1)))
	for range 3 {
		require.Equal(t, fromSource, get(t, before, "1"))
		require.Equal(t, fromSource, get(t, after, "1"))
	}
	require.Equal(t, 2, f.loads, "one for each release")
	require.Zero(t, before.Stats().BadEntries+after.Stats().BadEntries)
}

// TestTiered_VersionsLiveBesideEachOther is a rolling deploy that changes what a value means and not how it is built.
func TestTiered_VersionsLiveBesideEachOther(t *testing.T) {
	t.Parallel()
	f := &fleet{Miniredis: miniredis.RunT(t)}
	c := encrypting(t, codec.Default, newKey(t, "a", 1))
	before := f.instance(t, "users", c)
	after := f.instance(t, "users", codec.Versioned(c, 2))
	for range 3 {
		require.Equal(t, fromSource, get(t, before, "1"))
		require.Equal(t, fromSource, get(t, after, "1"))
	}
	require.Equal(t, 2, f.loads, "one for each version")
	require.Zero(t, before.Stats().BadEntries+after.Stats().BadEntries)
	require.NoError(t, after.Invalidate(t.Context(), "1"))
	require.Equal(t, fromSource, get(t, before, "1"))
	require.Equal(t, 3, f.loads, "an invalidation is for both")
}

// parseEpoch reads the first part of an epoch's STRING.
func parseEpoch(t *testing.T, s string) uint64 {
	t.Helper()
	digits, _, _ := strings.Cut(s, ":")
	n, err := strconv.ParseUint(digits, 16, 64)
	require.NoError(t, err)
	return n
}

func TestTiered_AnotherTypesBytesAreAMiss(t *testing.T) {
	t.Parallel()
	f := &fleet{Miniredis: miniredis.RunT(t)}
	c := encrypting(t, codec.Default, newKey(t, "a", 1))
	first, second := f.instance(t, "users", c), f.instance(t, "users", codec.Versioned(c, 2))
	require.NoError(t, first.Set(t.Context(), "1", stored))
	f.forge(t, "users", "1", "users", "1", func(e *remote.Envelope) {
		e.Schema.Type = codec.Fingerprint(codec.Versioned(c, 2), reflect.TypeFor[user]())
	})
	require.Equal(t, fromSource, get(t, second, "1"))
	require.Equal(t, 1, f.loads)
	require.NotZero(t, second.Stats().BadEntries)
}
