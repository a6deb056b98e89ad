package protobuf_test

import (
	"testing"

	"google.golang.org/protobuf/types/known/typepb"

	"github.com/tandemcache/tandem/remote/codec"
	"github.com/tandemcache/tandem/remote/codec/protobuf"
)

// plain holds the same as the message in the benchmarks, as the struct that codec.Default would be given.
type plain struct {
	Kind, Cardinality, Number int32
	Name, TypeURL, JSONName   string
}

func BenchmarkMarshal(b *testing.B) {
	p := plain{9, 1, 7, "customer_name", "type.example.org/shop.Customer", "customerName"}
	m := &typepb.Field{Kind: 9, Cardinality: 1, Number: 7, Name: p.Name, TypeUrl: p.TypeURL, JsonName: p.JSONName}
	marshal(b, codec.Default, &p)
	marshal(b, protobuf.Codec, m)
}

func marshal(b *testing.B, c codec.Codec, v any) {
	b.Helper()
	b.Run(c.Name(), func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Marshal(v); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkUnmarshal(b *testing.B) {
	p := plain{9, 1, 7, "customer_name", "type.example.org/shop.Customer", "customerName"}
	unmarshal(b, codec.Default, p)
	unmarshal(b, protobuf.Codec, &typepb.Field{Kind: 9, Cardinality: 1, Number: 7, Name: p.Name, TypeUrl: p.TypeURL, JsonName: p.JSONName})
}

func unmarshal[V any](b *testing.B, c codec.Codec, v V) {
	b.Helper()
	data, err := c.Marshal(v)
	if err != nil {
		b.Fatal(err)
	}
	b.Run(c.Name(), func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var out V
			if err := c.Unmarshal(data, &out); err != nil {
				b.Fatal(err)
			}
		}
	})
}
