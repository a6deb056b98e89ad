package msgpack_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec/msgpack"
	"github.com/tandemcache/tandem/tiered"
)

type user struct {
	ID   int64    `msgpack:"id"`
	Name string   `json:"name"`
	Tags []string `json:"tags"`
	Body []byte   `json:"body"`
}

func newUser() user {
	return user{1234567890123, "Ann", []string{"alpha", "beta", "gamma", "delta"}, make([]byte, 512)}
}

// instance returns an instance of the cache "users" without L1, so that every Get reads Redis.
func instance[V any](t *testing.T, addr string, load tiered.LoadFunc[V]) *tiered.Cache[V] {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	cache, err := tiered.New(client, "users", tiered.Options[V]{
		Codec: msgpack.Codec, Load: load, LocalTTL: tiered.Off, RedisTimeout: 10 * time.Second, MaxStaleness: 10 * time.Second,
		Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cache.Close()) })
	require.NoError(t, cache.Ready(t.Context()))
	return cache
}

func TestTiered_RoundTrip(t *testing.T) {
	t.Parallel()
	r := miniredis.RunT(t)
	a, b := instance[user](t, r.Addr(), nil), instance[user](t, r.Addr(), nil)
	require.NoError(t, a.Set(t.Context(), "1", newUser()))
	got, err := b.Get(t.Context(), "1")
	require.NoError(t, err)
	require.Equal(t, newUser(), got)

	ptr := instance[*user](t, r.Addr(), nil)
	u := newUser()
	require.NoError(t, ptr.Set(t.Context(), "2", &u))
	back, err := ptr.Get(t.Context(), "2")
	require.NoError(t, err)
	require.Equal(t, &u, back)
}

// TestTiered_ReleasesLiveBesideEachOther is a rolling deploy in which a field gets another name.
func TestTiered_ReleasesLiveBesideEachOther(t *testing.T) {
	t.Parallel()
	type renamed struct {
		ID   int64  `msgpack:"id"`
		Name string `msgpack:"full_name"`
	}
	r := miniredis.RunT(t)
	loads := 0 // Gets are on one goroutine, which waits for the loader
	before := instance(t, r.Addr(), func(context.Context, string) (user, error) { loads++; return newUser(), nil })
	after := instance(t, r.Addr(), func(context.Context, string) (renamed, error) { loads++; return renamed{1, "Ann"}, nil })
	for range 3 {
		u, err := before.Get(t.Context(), "1")
		require.NoError(t, err)
		require.Equal(t, newUser(), u)
		n, err := after.Get(t.Context(), "1")
		require.NoError(t, err)
		require.Equal(t, renamed{1, "Ann"}, n)
	}
	require.Equal(t, 2, loads, "one for each release")
	require.Zero(t, before.Stats().BadEntries+after.Stats().BadEntries)
}

func TestTiered_NewRefusesTypesThatDoNotFit(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	_, err := tiered.New(client, "users", tiered.Options[map[string]any]{Codec: msgpack.Codec})
	require.ErrorContains(t, err, "codec msgpack-1: map[string]interface {}[]: the bytes do not tell")
}
