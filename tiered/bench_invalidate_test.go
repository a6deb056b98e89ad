package tiered

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/redisserver"
)

// An Invalidate of one key on a real Redis, by one goroutine and by many, each with a key of its own; the cache hears its own
// messages. The unlink beside it is what a client without any cache would do:
//
//	go test ./tiered -run '^$' -bench Invalidate -benchmem -count 6
func BenchmarkInvalidate(b *testing.B) {
	srv := redisserver.Run(b, redisserver.Options{})
	rdb := redis.NewClient(&redis.Options{Addr: srv.Addr()})
	b.Cleanup(func() { _ = rdb.Close() })
	ctx := context.Background()
	c, err := New(rdb, "users", Options[string]{
		Load:   func(context.Context, string) (string, error) { return "somebody", nil },
		Logger: quietLog(),
	})
	require.NoError(b, err)
	b.Cleanup(func() { _ = c.Close() })
	require.NoError(b, c.Ready(soon(b)))
	var next atomic.Int64
	run := func(name string, one func(key string) error) {
		for _, g := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d", name, g), func(b *testing.B) {
				b.ReportAllocs()
				b.SetParallelism(max(g/2, 1))
				loop := func(more func() bool) {
					key := fmt.Sprint("user:", next.Add(1))
					for more() {
						if err := one(key); err != nil {
							b.Error(err)
							return
						}
					}
				}
				if g == 1 {
					loop(b.Loop)
					return
				}
				b.RunParallel(func(pb *testing.PB) { loop(pb.Next) })
			})
		}
	}
	run("unlink", func(key string) error { return rdb.Unlink(ctx, key).Err() })
	run("tandem", func(key string) error { return c.Invalidate(ctx, key) })
}
