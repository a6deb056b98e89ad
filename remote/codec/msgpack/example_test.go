package msgpack_test

import (
	"fmt"
	"reflect"

	"github.com/tandemcache/tandem/remote/codec"
	"github.com/tandemcache/tandem/remote/codec/msgpack"
)

func Example() {
	type User struct {
		ID   int64  `msgpack:"id"`
		Name string `msgpack:"name"`
	}
	// Options.Codec of a tiered.Cache takes msgpack.Codec. These are the calls that the cache makes.
	fmt.Println(codec.Check(msgpack.Codec, reflect.TypeFor[User]()))
	b, err := msgpack.Codec.Marshal(User{1, "Ann"})
	fmt.Printf("%q %v\n", b, err)
	fmt.Println(codec.Check(msgpack.Codec, reflect.TypeFor[map[string]any]()))
	// Output:
	// <nil>
	// "\x82\xa2id\x01\xa4name\xa3Ann" <nil>
	// codec msgpack-1: map[string]interface {}[]: the bytes do not tell what an interface {} holds: use codec.Default
}
