package local

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/dgraph-io/ristretto/v2"
	"github.com/stretchr/testify/require"
)

// The benchmarks share keys, values and access order; each case differs only in who answers. Run them together and
// compare within the run:
//
//	go test ./local -run '^$' -bench Hit -benchmem -count 6
const benchKeys = 10_000

type benchValue struct {
	ID   int64
	Name string
	Body []byte
}

func benchOrder() []string {
	keys := make([]string, benchKeys)
	for i := range keys {
		keys[i] = fmt.Sprintf("user:%018d", i)
	}
	zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 1, benchKeys-1)
	order := make([]string, 1<<16)
	for i := range order {
		order[i] = keys[zipf.Uint64()]
	}
	return order
}

func benchBoth(b *testing.B, get func(key string) bool) {
	order := benchOrder()
	for _, key := range order {
		require.True(b, get(key), key)
	}
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			get(order[i&(len(order)-1)])
			i++
		}
	})
	b.Run("16 goroutines", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			i := rand.IntN(len(order))
			for pb.Next() {
				get(order[i&(len(order)-1)])
				i++
			}
		})
	})
}

func BenchmarkHit(b *testing.B) {
	value := &benchValue{ID: 1, Name: "n", Body: make([]byte, 64)}

	for name, parts := range map[string]int{"Store": 1, "Store of 64 partitions": 64} {
		b.Run(name, func(b *testing.B) {
			s, err := New(Options[*benchValue]{Bytes: 64 << 20, MaxStaleness: time.Hour, Partitions: parts})
			require.NoError(b, err)
			defer s.Close()
			for p := range parts {
				s.Begin(p)
			}
			for _, key := range benchOrder() {
				s.Put(key, value, s.Ticket(int(s.hash(key)%uint64(parts)), key), time.Hour)
			}
			benchBoth(b, func(key string) bool { return s.Get(key) != nil })
		})
	}
	for name, ttl := range map[string]time.Duration{"Ristretto with TTL": time.Hour, "Ristretto without TTL": 0} {
		b.Run(name, func(b *testing.B) {
			c, err := ristretto.NewCache(&ristretto.Config[string, *benchValue]{
				NumCounters: 655_360, MaxCost: 64 << 20, BufferItems: 64, IgnoreInternalCost: true,
			})
			require.NoError(b, err)
			defer c.Close()
			for _, key := range benchOrder() {
				c.SetWithTTL(key, value, 500, ttl)
				c.Wait()
			}
			benchBoth(b, func(key string) bool { _, ok := c.Get(key); return ok })
		})
	}
}

// A hit of an entry with tags beside one without, and beside BenchmarkHit's.
func BenchmarkTaggedHit(b *testing.B) {
	for _, tags := range [][]string{nil, {"red"}, {"red", "green", "blue"}} {
		b.Run(fmt.Sprint(len(tags), " tags"), func(b *testing.B) {
			s := newStore(b, time.Hour)
			keys := benchOrder()[:1<<10]
			for _, key := range keys {
				s.Put(key, key, s.Tagged(s.Ticket(0, key), tags), time.Hour)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				s.Get(keys[i&(len(keys)-1)])
				i++
			}
		})
	}
}
