package codec_test

import (
	"fmt"
	"reflect"

	"github.com/tandemcache/tandem/remote/codec"
)

func ExampleFor() {
	fmt.Println(codec.For[string]().Name())
	fmt.Println(codec.For[[]byte]().Name())
	fmt.Println(codec.For[map[string]int]().Name())
	// Output:
	// raw
	// raw
	// cbor-1
}

func ExampleCheck() {
	type Job struct {
		Name string
		Done chan bool
	}
	fmt.Println(codec.Check(codec.Default, reflect.TypeFor[Job]()))
	// Output: codec cbor-1: codec_test.Job.Done: a chan cannot be encoded
}

func ExampleVersioned() {
	// Since this release the amount is in cents, before it was in euros: the same type with another meaning.
	type Price struct{ Amount int64 }
	before := codec.For[Price]()
	now := codec.Versioned(before, 2) // Options.Codec of a tiered.Cache takes it

	priceType := reflect.TypeFor[Price]()
	fmt.Println(codec.Fingerprint(now, priceType) == codec.Fingerprint(before, priceType))
	// Output: false
}
