package encrypt_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec"
)

func BenchmarkMarshal(b *testing.B) {
	for name, c := range benchmarked(b) {
		for _, size := range []int{100, 10_000} {
			u := user{1, strings.Repeat("n", size)}
			b.Run(fmt.Sprintf("%s/size=%d", name, size), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					if _, err := codec.MarshalFor(c, entry, &u); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	for name, c := range benchmarked(b) {
		for _, size := range []int{100, 10_000} {
			data, err := codec.MarshalFor(c, entry, user{1, strings.Repeat("n", size)})
			require.NoError(b, err)
			b.Run(fmt.Sprintf("%s/size=%d", name, size), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					var u user
					if err := codec.UnmarshalFor(c, entry, data, &u); err != nil {
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
		"default":   codec.Default,
		"encrypted": encrypting(b, codec.Default, newKey(b, "a", 1)),
	}
}
