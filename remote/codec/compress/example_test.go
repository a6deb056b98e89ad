package compress_test

import (
	"fmt"
	"strings"

	"github.com/tandemcache/tandem/remote/codec"
	"github.com/tandemcache/tandem/remote/codec/compress"
)

func ExampleNew() {
	type Page struct{ HTML string }
	// Options.Codec of a tiered.Cache takes it.
	c, err := compress.New(codec.For[Page](), compress.Options{Algorithm: compress.Zstd, Threshold: 512})
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := c.Marshal(Page{strings.Repeat("<p>hello</p>", 1000)})
	fmt.Println(c.Name(), len(b) < 100, err)
	// Output: cbor-1-z1 true <nil>
}
