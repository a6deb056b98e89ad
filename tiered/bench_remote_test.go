package tiered

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec"
	"github.com/tandemcache/tandem/tests/redisserver"
)

// An L2 hit beside a bare GET and decode of the same bytes by the same codec, on a real Redis. L1 is off, and each goroutine
// reads keys of its own, so that no read is shared. The last is a cache whose values have two tags each: a script reads them
// with the tags' versions. Compare within one run:
//
//	go test ./tiered -run '^$' -bench RemoteHit -benchmem -count 6
func BenchmarkRemoteHit(b *testing.B) {
	const keysOfOne, readers = 16, 512
	user := benchUser{ID: 1, Name: "somebody of thirty-two letters..", Tags: []string{"a", "b", "c", "d"}, Body: make([]byte, 512)}
	srv := redisserver.Run(b, redisserver.Options{})
	rdb := redis.NewClient(&redis.Options{Addr: srv.Addr()})
	b.Cleanup(func() { _ = rdb.Close() })
	ctx := context.Background()
	c, err := New(rdb, "users", Options[benchUser]{
		Load:   func(context.Context, string) (benchUser, error) { return user, nil },
		Logger: quietLog(), LocalTTL: Off, TTL: time.Hour,
	})
	require.NoError(b, err)
	b.Cleanup(func() { _ = c.Close() })
	require.NoError(b, c.Ready(soon(b)))
	withTags, err := New(rdb, "members", Options[benchUser]{
		Load:   func(context.Context, string) (benchUser, error) { return user, nil },
		Tags:   func(key string, _ benchUser) []string { return []string{"all", "tag of " + key} },
		Logger: quietLog(), LocalTTL: Off, TTL: time.Hour,
	})
	require.NoError(b, err)
	b.Cleanup(func() { _ = withTags.Close() })
	require.NoError(b, withTags.Ready(soon(b)))
	bytes, err := codec.Default.Marshal(user)
	require.NoError(b, err)
	keys := make([]string, keysOfOne*readers)
	for i := range keys {
		keys[i] = fmt.Sprint("user:", i)
		_, err := c.Get(ctx, keys[i])
		require.NoError(b, err)
		_, err = withTags.Get(ctx, keys[i])
		require.NoError(b, err)
		require.NoError(b, rdb.Set(ctx, keys[i], bytes, time.Hour).Err())
	}
	for _, g := range []int{1, 64, readers} {
		run := func(name string, get func(key string) error) {
			b.Run(fmt.Sprintf("%s/%d", name, g), func(b *testing.B) {
				b.ReportAllocs()
				b.SetParallelism(max(g/2, 1))
				var next atomic.Int64
				one := func(more func() bool) {
					own := keys[keysOfOne*int(next.Add(1)-1)%len(keys):][:keysOfOne]
					for i := 0; more(); i++ {
						if err := get(own[i%keysOfOne]); err != nil {
							b.Error(err)
							return
						}
					}
				}
				if g == 1 {
					one(b.Loop)
					return
				}
				b.RunParallel(func(pb *testing.PB) { one(pb.Next) })
			})
		}
		run("bare", func(key string) error {
			raw, err := rdb.Get(ctx, key).Bytes()
			if err != nil {
				return err
			}
			var u benchUser
			return codec.Default.Unmarshal(raw, &u)
		})
		run("tandem", func(key string) error {
			_, err := c.Get(ctx, key)
			return err
		})
		run("two tags", func(key string) error {
			_, err := withTags.Get(ctx, key)
			return err
		})
	}
	require.Zero(b, c.Stats().RedisErrors+withTags.Stats().RedisErrors)
}
