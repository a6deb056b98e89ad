package protobuf_test

import (
	"fmt"
	"reflect"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tandemcache/tandem/remote/codec"
	"github.com/tandemcache/tandem/remote/codec/protobuf"
)

func Example() {
	// Options.Codec of a tiered.Cache[*durationpb.Duration] takes protobuf.Codec. These are the calls that the cache makes.
	fmt.Println(codec.Check(protobuf.Codec, reflect.TypeFor[*durationpb.Duration]()))
	b, err := protobuf.Codec.Marshal(&durationpb.Duration{Seconds: 5})
	fmt.Printf("%x %v\n", b, err)
	fmt.Println(codec.Check(protobuf.Codec, reflect.TypeFor[durationpb.Duration]()))
	// Output:
	// <nil>
	// 0805 <nil>
	// codec protobuf-1: durationpb.Duration: a message must not be copied: use *durationpb.Duration
}
