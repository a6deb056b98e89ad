package msgpack_test

import (
	"testing"

	"github.com/tandemcache/tandem/remote/codec"
	"github.com/tandemcache/tandem/remote/codec/msgpack"
)

var benchmarked = []codec.Codec{codec.Default, msgpack.Codec}

func BenchmarkMarshal(b *testing.B) {
	v := newUser()
	for _, c := range benchmarked {
		b.Run(c.Name(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Marshal(&v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	for _, c := range benchmarked {
		data, err := c.Marshal(newUser())
		if err != nil {
			b.Fatal(err)
		}
		b.Run(c.Name(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var v user
				if err := c.Unmarshal(data, &v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
