package integration

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec"
	"github.com/tandemcache/tandem/tiered"
)

// C7: whatever is under the key, a Get returns what the source says, without an error, and replaces it.
func TestSpoiledEntries(t *testing.T) {
	onBoth(t, func(t *testing.T, r *rig) {
		s := newSource(0)
		admin := r.client(t)
		ctx := context.Background()
		const key = "spoiled"
		redisKey := r.keys.Entry(key)
		// L1 is off: every Get asks Redis.
		c := instance(t, r, s, calm, func(o *tiered.Options[Value]) { o.LocalTTL = tiered.Off })

		get(t, c, key)
		fields, err := admin.HGetAll(ctx, redisKey).Result()
		require.NoError(t, err)
		require.Len(t, fields, 1)
		var field, good string
		for field, good = range fields {
		}

		wrong, failed, tried := 0, 0, 0
		try := func(spoil func()) {
			t.Helper()
			tried++
			v := s.write(key) // so that what was stored is old and must not come back
			spoil()
			got, err := c.Get(soon(t), key)
			switch {
			case err != nil:
				failed++
			case got.Version != v.Version || got.Key != key:
				wrong++
				t.Logf("try %d: version %d of %s, want %d of %s; %+v", tried, got.Version, got.Key, v.Version, v.Key, c.Stats())
			}
		}
		for i := range len(good) {
			for _, flip := range []byte{0x01, 0x80, 0xff} {
				try(func() {
					b := []byte(good)
					b[i] ^= flip
					require.NoError(t, admin.HSet(ctx, redisKey, field, b).Err())
				})
			}
		}
		for n := range len(good) {
			try(func() { require.NoError(t, admin.HSet(ctx, redisKey, field, good[:n]).Err()) })
		}
		try(func() { require.NoError(t, admin.HSet(ctx, redisKey, field, good+"x").Err()) })
		try(func() { require.NoError(t, admin.HSet(ctx, redisKey, field, make([]byte, 4<<20)).Err()) })
		spoiled := tried
		for name, put := range map[string]func(redis.Pipeliner){
			"string": func(p redis.Pipeliner) { p.Set(ctx, redisKey, good, 0) },
			"list":   func(p redis.Pipeliner) { p.RPush(ctx, redisKey, good) },
			"set":    func(p redis.Pipeliner) { p.SAdd(ctx, redisKey, good) },
			"zset":   func(p redis.Pipeliner) { p.ZAdd(ctx, redisKey, redis.Z{Member: good}) },
			"stream": func(p redis.Pipeliner) { p.XAdd(ctx, &redis.XAddArgs{Stream: redisKey, Values: []string{"a", good}}) },
			"hash":   func(p redis.Pipeliner) { p.HSet(ctx, redisKey, "other", good) },
		} {
			try(func() {
				_, err := admin.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Del(ctx, redisKey); put(p); return nil })
				require.NoError(t, err, name)
			})
			require.Equal(t, s.read(key).Version, get(t, c, key), "after a %s", name)
			require.Positive(t, admin.PTTL(ctx, redisKey).Val(), "after a %s it has a TTL again", name)
		}
		t.Logf("%d spoiled entries (each byte changed in 3 ways, each truncation, too long, too large), %d wrong types: wrong answers %d, errors of Get %d, counted by the cache %d",
			spoiled, tried-spoiled, wrong, failed, c.Stats().BadEntries)
		require.Zero(t, wrong)
		require.Zero(t, failed)
		require.GreaterOrEqual(t, c.Stats().BadEntries, uint64(spoiled))
	})
}

// Two caches of one name with other codecs or other types in one Redis: misses for each other, and unharmed.
func TestTwoSchemasSideBySide(t *testing.T) {
	onBoth(t, func(t *testing.T, r *rig) {
		s := newSource(0)
		cbor := instance(t, r, s, calm)
		json := instance(t, r, s, calm, func(o *tiered.Options[Value]) { o.Codec = codec.JSON })
		type Other struct {
			Key     int    // a string in Value
			Version string // a number in Value
		}
		var otherLoads int
		other, err := tiered.New(r.client(t), r.name(), tiered.Options[Other]{
			Load:     func(context.Context, string) (Other, error) { otherLoads++; return Other{Key: 1, Version: "x"}, nil },
			LocalTTL: tiered.Off, MaxStaleness: calmBound, RedisTimeout: unhurried,
		})
		require.NoError(t, err)
		defer func() { require.NoError(t, other.Close()) }()
		require.NoError(t, other.Ready(soon(t)))

		for range 3 {
			require.Zero(t, get(t, cbor, "k"))
			require.Zero(t, get(t, json, "k"))
			o, err := other.Get(soon(t), "k")
			require.NoError(t, err)
			require.Equal(t, Other{Key: 1, Version: "x"}, o)
		}
		require.EqualValues(t, 2, s.loads.Load(), "neither ruins the other's entry")
		require.Equal(t, 1, otherLoads)
		require.Zero(t, cbor.Stats().BadEntries+json.Stats().BadEntries+other.Stats().BadEntries)

		v := s.write("k")
		require.NoError(t, json.Invalidate(soon(t), "k"))
		eventually(t, "an invalidation is for all of them", func() bool { return get(t, cbor, "k") == v.Version })
		require.Equal(t, v.Version, get(t, json, "k"))
		_, err = other.Get(soon(t), "k")
		require.NoError(t, err)
		require.Equal(t, 2, otherLoads)
	})
}
