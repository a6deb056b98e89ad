package protobuf_test

import (
	"context"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/tandemcache/tandem/remote/codec"
	"github.com/tandemcache/tandem/remote/codec/protobuf"
	"github.com/tandemcache/tandem/tiered"
)

// instance returns an instance of the cache "things" without L1, so that every Get reads Redis.
func instance[V any](t *testing.T, addr string, load tiered.LoadFunc[V]) *tiered.Cache[V] {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	cache, err := tiered.New(client, "things", tiered.Options[V]{
		Codec: protobuf.Codec, Load: load, LocalTTL: tiered.Off, RedisTimeout: 10 * time.Second, MaxStaleness: 10 * time.Second,
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
	a, b := instance[*structpb.Struct](t, r.Addr(), nil), instance[*structpb.Struct](t, r.Addr(), nil)
	for key, m := range map[string]*structpb.Struct{"1": newStruct(t), "empty": {}} {
		require.NoError(t, a.Set(t.Context(), key, m))
		got, err := b.Get(t.Context(), key)
		require.NoError(t, err)
		require.True(t, proto.Equal(m, got))
	}
	require.ErrorIs(t, a.Set(t.Context(), "1", nil), tiered.ErrEncode)
}

// TestTiered_ReleasesLiveBesideEachOther is a rolling deploy that changes the message. On the wire, each could be read as
// the other.
func TestTiered_ReleasesLiveBesideEachOther(t *testing.T) {
	t.Parallel()
	r := miniredis.RunT(t)
	loads := 0 // Gets are on one goroutine, which waits for the loader
	before := instance(t, r.Addr(), func(context.Context, string) (*wrapperspb.StringValue, error) {
		loads++
		return wrapperspb.String("x"), nil
	})
	after := instance(t, r.Addr(), func(context.Context, string) (*wrapperspb.BytesValue, error) {
		loads++
		return wrapperspb.Bytes([]byte("y")), nil
	})
	for range 3 {
		s, err := before.Get(t.Context(), "1")
		require.NoError(t, err)
		require.Equal(t, "x", s.GetValue())
		b, err := after.Get(t.Context(), "1")
		require.NoError(t, err)
		require.Equal(t, "y", string(b.GetValue()))
	}
	require.Equal(t, 2, loads, "one for each release")
	require.Zero(t, before.Stats().BadEntries+after.Stats().BadEntries)
}

func TestTiered_NewRefusesTypesThatDoNotFit(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	_, err := tiered.New(client, "things", tiered.Options[wrapperspb.StringValue]{Codec: protobuf.Codec})
	require.ErrorContains(t, err, "use *wrapperspb.StringValue")
	require.NotZero(t, codec.Fingerprint(protobuf.Codec, reflect.TypeFor[*wrapperspb.StringValue]()))
}
