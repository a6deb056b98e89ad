package encrypt_test

import (
	"crypto/rand"
	"fmt"

	"github.com/tandemcache/tandem/remote/codec"
	"github.com/tandemcache/tandem/remote/codec/compress"
	"github.com/tandemcache/tandem/remote/codec/encrypt"
)

func ExampleNew() {
	type User struct{ Name, Email string }
	// In a service, secrets come from where it keeps such things.
	secrets := map[string][]byte{"2026-01": make([]byte, encrypt.KeyBytes), "2026-02": make([]byte, encrypt.KeyBytes)}
	_, _ = rand.Read(secrets["2026-01"])
	_, _ = rand.Read(secrets["2026-02"])

	old, err := encrypt.NewKey("2026-01", secrets["2026-01"])
	if err != nil {
		fmt.Println(err)
		return
	}
	current, err := encrypt.NewKey("2026-02", secrets["2026-02"])
	if err != nil {
		fmt.Println(err)
		return
	}
	small, err := compress.New(codec.For[User](), compress.Options{}) // before encryption: later nothing gets smaller
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := encrypt.New(small, current, old) // Options.Codec of a tiered.Cache takes it
	fmt.Println(c.Name(), current, err)
	// Output: cbor-1-z1-e1 encrypt.Key(2026-02) <nil>
}
