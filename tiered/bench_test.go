package tiered

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/dgraph-io/ristretto/v2"
	"github.com/stretchr/testify/require"
)

type benchUser struct {
	ID   int64
	Name string
	Tags []string
	Body []byte
}

const benchUsers = 10_000

func benchOrder() []string {
	zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.01, 1, benchUsers-1)
	order := make([]string, 1<<16)
	for i := range order {
		order[i] = fmt.Sprintf("user:%d", zipf.Uint64())
	}
	return order
}

// An L1 hit beside a bare Ristretto hit of the same keys and values in the same order, with and without a TTL there. Compare
// within one run:
//
//	go test ./tiered -run '^$' -bench LocalHit -benchmem -count 6
func BenchmarkLocalHit(b *testing.B) {
	user := benchUser{ID: 1, Name: "somebody", Tags: []string{"a", "b"}, Body: make([]byte, 512)}
	order := benchOrder()
	ctx := context.Background()

	for name, refresh := range map[string]time.Duration{"tandem": 0, "tandem with RefreshAfter": 30 * time.Minute} {
		c, err := New(newRedis(b).client(b), "users", Options[benchUser]{
			Load:   func(context.Context, string) (benchUser, error) { return user, nil },
			Logger: quietLog(), LocalTTL: time.Hour, TTL: time.Hour, RefreshAfter: refresh,
		})
		require.NoError(b, err)
		b.Cleanup(func() { _ = c.Close() })
		require.NoError(b, c.Ready(soon(b)))
		for _, key := range order {
			_, err := c.Get(ctx, key)
			require.NoError(b, err)
		}
		benchHit(b, name, order, func(key string) bool { _, err := c.Get(ctx, key); return err == nil })
	}

	for name, ttl := range map[string]time.Duration{"Ristretto with TTL": time.Hour, "Ristretto without TTL": 0} {
		bare, err := ristretto.NewCache(&ristretto.Config[string, benchUser]{
			NumCounters: 655_360, MaxCost: 64 << 20, BufferItems: 64, IgnoreInternalCost: true,
		})
		require.NoError(b, err)
		b.Cleanup(bare.Close)
		for _, key := range order {
			bare.SetWithTTL(key, user, 800, ttl)
			bare.Wait()
		}
		benchHit(b, name, order, func(key string) bool { _, ok := bare.Get(key); return ok })
	}
}

func benchHit(b *testing.B, name string, order []string, get func(string) bool) {
	b.Run(name+"/serial", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			if !get(order[i&(len(order)-1)]) {
				b.Fatal("miss")
			}
			i++
		}
	})
	b.Run(name+"/16 goroutines", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			i := rand.IntN(len(order))
			for pb.Next() {
				if !get(order[i&(len(order)-1)]) {
					b.Error("miss")
				}
				i++
			}
		})
	})
}
