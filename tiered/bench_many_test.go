package tiered

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/redisserver"
)

// A batch of 100 keys beside 100 Gets of the same keys, one after the other and all at once, from L1 and from Redis (a real
// one). Compare within one run:
//
//	go test ./tiered -run '^$' -bench GetMany -benchmem -count 6
func BenchmarkGetMany(b *testing.B) {
	rdb := redisserver.Run(b, redisserver.Options{}).Client()
	b.Cleanup(func() { _ = rdb.Close() })
	keys := names("user:", 100)
	user := benchUser{ID: 1, Name: "somebody", Tags: []string{"a", "b"}, Body: make([]byte, 512)}
	ctx := context.Background()
	for _, from := range []string{"L1", "Redis"} {
		c, err := New(rdb, "users", Options[benchUser]{
			LoadMany: func(_ context.Context, keys []string) (map[string]benchUser, error) {
				out := make(map[string]benchUser, len(keys))
				for _, key := range keys {
					out[key] = user
				}
				return out, nil
			},
			Logger: quietLog(), TTL: time.Hour, LocalTTL: map[string]time.Duration{"L1": time.Hour, "Redis": Off}[from],
		})
		require.NoError(b, err)
		b.Cleanup(func() { _ = c.Close() })
		require.NoError(b, c.Ready(soon(b)))
		eventually(b, "nothing is in doubt", func() bool { return keeps(c) })
		_, err = c.GetMany(ctx, keys)
		require.NoError(b, err)
		b.Run(from+"/GetMany", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if got, err := c.GetMany(ctx, keys); len(got) != len(keys) || err != nil {
					b.Fatal(len(got), err)
				}
			}
		})
		b.Run(from+"/100 Gets", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, key := range keys {
					if _, err := c.Get(ctx, key); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
		b.Run(from+"/100 Gets at once", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				done := make(chan error, len(keys))
				for _, key := range keys {
					go func() {
						_, err := c.Get(ctx, key)
						done <- err
					}()
				}
				for range keys {
					if err := <-done; err != nil {
						b.Fatal(err)
					}
				}
			}
		})
		require.Less(b, c.Stats().Loads, uint64(len(keys)))
	}
}
