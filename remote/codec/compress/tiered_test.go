package compress_test

import (
	"context"
	"log/slog"
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
	Bio  string `json:"bio"`
}

// fleet makes instances of one cache, without L1, so that every Get reads Redis.
type fleet struct {
	*miniredis.Miniredis

	loads int
}

func (f *fleet) instance(t *testing.T, c codec.Codec) *tiered.Cache[user] {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: f.Addr()})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	cache, err := tiered.New(client, "users", tiered.Options[user]{
		Codec: c, LocalTTL: tiered.Off, RedisTimeout: 10 * time.Second, MaxStaleness: 10 * time.Second, LeaseWait: tiered.Off,
		Logger: slog.New(slog.DiscardHandler),
		Load: func(context.Context, string) (user, error) {
			f.loads++ // the test calls Get on one goroutine, which waits for the loader
			return newUser(), nil
		},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cache.Close()) })
	require.NoError(t, cache.Ready(t.Context()))
	return cache
}

func newUser() user { return user{1, "Ann", strings.Repeat("she writes ", 1000)} }

func TestTiered_SharesCompressedEntries(t *testing.T) {
	t.Parallel()
	f := &fleet{Miniredis: miniredis.RunT(t)}
	s2 := compressing(t, codec.Default, compress.Options{})
	a := f.instance(t, s2)
	b := f.instance(t, compressing(t, codec.Default, compress.Options{Algorithm: compress.Zstd}))
	require.NoError(t, a.Set(t.Context(), "1", newUser()))
	got, err := b.Get(t.Context(), "1")
	require.NoError(t, err)
	require.Equal(t, newUser(), got)
	got, err = b.Get(t.Context(), "2")
	require.NoError(t, err)
	require.Equal(t, newUser(), got)
	got, err = a.Get(t.Context(), "2")
	require.NoError(t, err)
	require.Equal(t, newUser(), got)
	require.Equal(t, 1, f.loads)
	require.Zero(t, a.Stats().BadEntries+b.Stats().BadEntries)
	require.Less(t, len(f.value(t, "1")), 1000)
}

// TestTiered_LivesBesideUncompressed is a rolling deploy that turns compression on.
func TestTiered_LivesBesideUncompressed(t *testing.T) {
	t.Parallel()
	f := &fleet{Miniredis: miniredis.RunT(t)}
	before := f.instance(t, nil)
	after := f.instance(t, compressing(t, codec.Default, compress.Options{}))
	for range 3 {
		for _, c := range []*tiered.Cache[user]{before, after} {
			got, err := c.Get(t.Context(), "1")
			require.NoError(t, err)
			require.Equal(t, newUser(), got)
		}
	}
	require.Equal(t, 2, f.loads, "one for each release")
	require.Zero(t, before.Stats().BadEntries+after.Stats().BadEntries)
	require.NoError(t, after.Invalidate(t.Context(), "1"))
	_, err := before.Get(t.Context(), "1")
	require.NoError(t, err)
	require.Equal(t, 3, f.loads, "an invalidation is for both")
}

func TestTiered_BombIsAMiss(t *testing.T) {
	t.Parallel()
	f := &fleet{Miniredis: miniredis.RunT(t)}
	large := compressing(t, codec.Default, compress.Options{})
	small := compressing(t, codec.Default, compress.Options{MaxDecoded: 64 << 10})
	u := newUser()
	u.Bio = strings.Repeat("x", 1<<20)
	require.NoError(t, f.instance(t, large).Set(t.Context(), "1", u))
	c := f.instance(t, small)
	got, err := c.Get(t.Context(), "1")
	require.NoError(t, err)
	require.Equal(t, newUser(), got, "from the source")
	require.NotZero(t, c.Stats().BadEntries)
}

// value returns what the entry's only field holds.
func (f *fleet) value(t *testing.T, key string) string {
	t.Helper()
	keys, err := remote.KeysFor("users")
	require.NoError(t, err)
	fields, err := f.HKeys(keys.Entry(key))
	require.NoError(t, err)
	require.Len(t, fields, 1)
	return f.HGet(keys.Entry(key), fields[0])
}
