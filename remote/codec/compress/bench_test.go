package compress_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec"
	"github.com/tandemcache/tandem/remote/codec/compress"
)

// list is a value as a service has them: names that repeat, numbers that do not.
type list struct {
	Items []item `json:"items"`
}

type item struct {
	ID    int64    `json:"id"`
	Name  string   `json:"name"`
	Email string   `json:"email"`
	Tags  []string `json:"tags"`
}

func newList(n int) list {
	var l list
	for i := range n {
		id := int64(i) * 7919 % 1_000_003
		l.Items = append(l.Items, item{id, fmt.Sprintf("customer %d", id), fmt.Sprintf("c%d@example.org", id), []string{"active", "eu-west"}})
	}
	return l
}

func BenchmarkMarshal(b *testing.B) {
	for name, c := range benchmarked(b) {
		for _, n := range []int{10, 1000} {
			l := newList(n)
			b.Run(fmt.Sprintf("%s/items=%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				var data []byte
				for b.Loop() {
					var err error
					if data, err = c.Marshal(&l); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(len(data)), "bytes")
			})
		}
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	for name, c := range benchmarked(b) {
		for _, n := range []int{10, 1000} {
			data, err := c.Marshal(newList(n))
			require.NoError(b, err)
			b.Run(fmt.Sprintf("%s/items=%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					var l list
					if err := c.Unmarshal(data, &l); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func benchmarked(b *testing.B) map[string]codec.Codec {
	b.Helper()
	return map[string]codec.Codec{
		"default": codec.Default,
		"s2":      compressing(b, codec.Default, compress.Options{}),
		"zstd":    compressing(b, codec.Default, compress.Options{Algorithm: compress.Zstd}),
	}
}
