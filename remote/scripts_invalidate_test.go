package remote

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

var invalidateSpecs = []spec{
	{"invalidate/deletes values and leases of all schemas", func(f *fixture) {
		f.put(f.a, "value", time.Hour)
		f.put(f.b, "other", time.Hour)
		ta, tb := NewToken(), NewToken()
		for s, token := range map[*Store]Token{f.a: ta, f.b: tb} {
			f.refresh(s, token)
		}
		ears := f.listen(f.channel())
		require.NoError(f, f.a.Invalidate(f.ctx(), []string{key}, []byte(everyByte())))
		require.False(f, f.exists(f.keys.Entry(key)))
		require.Equal(f, []string{f.channel() + " " + everyByte()}, ears.heard())
	}},
	{"invalidate/takes many keys, absent ones and other types too", func(f *fixture) {
		var keys []string
		for i := range MaxBatch {
			k := fmt.Sprintf("k%d", i)
			keys = append(keys, k)
			if i%3 == 0 {
				continue
			}
			put := slices.Collect(maps.Values(wrongTypes))[i%len(wrongTypes)]
			if i%3 == 1 {
				put = func(ctx context.Context, rdb *redis.Client, key string) error {
					return rdb.HSet(ctx, key, f.a.field, "value").Err()
				}
			}
			require.NoError(f, put(f.ctx(), f.rdb, f.keys.Entry(k)))
		}
		keys = append(keys[:MaxBatch-1], keys[1]) // one twice
		require.NoError(f, f.rdb.HSet(f.ctx(), f.keys.Entry("survivor"), "x", "y").Err())
		require.NoError(f, f.rdb.PExpire(f.ctx(), f.keys.Entry("survivor"), time.Hour).Err())
		require.NoError(f, f.rdb.Del(f.ctx(), f.keys.Entry(fmt.Sprintf("k%d", MaxBatch-1))).Err())
		ears := f.listen(f.channel())
		require.NoError(f, f.a.Invalidate(f.ctx(), keys, []byte("inv")))
		require.Equal(f, []string{f.channel() + " inv"}, ears.heard(), "one message")
		for _, k := range keys {
			require.False(f, f.exists(f.keys.Entry(k)), k)
		}
		require.True(f, f.exists(f.keys.Entry("survivor")))
	}},
	{"invalidate/without a key is an error", func(f *fixture) {
		ears := f.listen(f.channel())
		require.Error(f, f.a.Invalidate(f.ctx(), nil, []byte("inv")))
		require.Empty(f, ears.heard())
	}},
	{"invalidate/the change and its message are one step", func(f *fixture) {
		// Whoever has heard the message finds the change made; and the order of the messages is that of the changes, so that
		// the last one heard is what is there.
		f.setEpoch(EpochText(7))
		const writers, each = 4, 50
		ears := f.listen(f.channel())
		errs := make(chan error, writers)
		for w := range writers {
			go func() {
				var err error
				for i := 0; i < each && err == nil; i++ {
					v := fmt.Appendf(nil, "%d-%d", w, i)
					if i%5 == 4 {
						err = f.a.Invalidate(f.ctx(), []string{key}, []byte("none"))
					} else {
						_, err = f.a.Set(f.ctx(), key, v, ttl, 7, f.now()+patience.Milliseconds(), v)
					}
				}
				errs <- err
			}()
		}
		for range writers {
			require.NoError(f, <-errs)
		}
		heard := ears.heard()
		require.Len(f, heard, writers*each)
		last := strings.TrimPrefix(heard[len(heard)-1], f.channel()+" ")
		v, err := f.a.Get(f.ctx(), key)
		require.NoError(f, err)
		if last == "none" {
			require.Nil(f, v)
		} else {
			require.Equal(f, last, string(v))
		}
	}},
	{"invalidate/who hears the message does not find the value", func(f *fixture) {
		ears := f.listen(f.channel())
		for i := range 50 {
			f.put(f.a, "value", ttl)
			errs := make(chan error, 1)
			go func() { errs <- f.a.Invalidate(f.ctx(), []string{key}, fmt.Append(nil, i)) }()
			require.Equal(f, fmt.Sprint(f.channel(), " ", i), ears.next())
			f.requireNothing(f.a)
			require.NoError(f, <-errs)
		}
	}},
	{"invalidate all/starts a new epoch and says so", func(f *fixture) {
		token := NewToken()
		l := f.acquire(f.a, token)
		f.put(f.b, "other", time.Hour)
		ears := f.listen(f.channel())
		seen := map[string]bool{f.epochInRedis(): true}
		for range 5 {
			require.NoError(f, f.a.InvalidateAll(f.ctx(), only, []byte(everyByte()))[0])
			require.Equal(f, []string{f.channel() + " " + everyByte()}, ears.heard())
			e := f.epochInRedis()
			require.False(f, seen[e], "never the same again")
			seen[e] = true
			require.Greater(f, f.pttl(f.keys.Epoch(0)), epochTTL-time.Minute)
		}
		f.requireValue(f.b, "other") // what there was stays, and is of another epoch
		f.fill(f.a, token, "old", ttl, l.Epoch, false)
		l = f.acquire(f.a, NewToken())
		require.Equal(f, EpochText(l.Epoch), f.epochInRedis())
	}},
	{"invalidate all/leaves what the heartbeat has noted", func(f *fixture) {
		f.setEpoch(EpochText(7))
		require.NoError(f, f.a.InvalidateAll(f.ctx(), only, []byte("all"))[0])
		require.Equal(f, f.epochInRedis()+epochNote, f.rdb.Get(f.ctx(), f.keys.Epoch(0)).Val())
	}},
	{"invalidate all/where no epoch was, or another type", func(f *fixture) {
		require.NoError(f, f.a.InvalidateAll(f.ctx(), only, []byte("all"))[0])
		first := f.epochInRedis()
		require.NoError(f, f.rdb.Del(f.ctx(), f.keys.Epoch(0)).Err())
		require.NoError(f, f.rdb.RPush(f.ctx(), f.keys.Epoch(0), "x").Err())
		require.NoError(f, f.a.InvalidateAll(f.ctx(), only, []byte("all"))[0])
		require.NotEqual(f, first, f.epochInRedis())
	}},
}
