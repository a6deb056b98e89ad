package codec

import (
	"reflect"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// Versioned returns c for values of the given version of their meaning. Fingerprint tells types apart by structure. Where
// the meaning changes and the structure does not (a price that was in euros is in cents), the releases before and after
// need different versions: then neither reads what the other has stored, and neither replaces it.
//
// Bytes and name are those of c.
func Versioned(c Codec, version uint64) Codec { return versioned{c, version} }

type versioned struct {
	Codec

	version uint64
}

// Fingerprint implements Fingerprinter.
func (c versioned) Fingerprint(t reflect.Type) uint64 {
	inner := Fingerprint(c.Codec, t)
	return xxhash.Sum64String("version " + strconv.FormatUint(c.version, 10) + "\n" + strconv.FormatUint(inner, 16))
}

// Check implements Checker.
func (c versioned) Check(t reflect.Type) error { return Check(c.Codec, t) }

// MarshalEntry implements EntryCodec.
func (c versioned) MarshalEntry(e Entry, v any) ([]byte, error) { return MarshalFor(c.Codec, e, v) }

// UnmarshalEntry implements EntryCodec.
func (c versioned) UnmarshalEntry(e Entry, data []byte, v any) error {
	return UnmarshalFor(c.Codec, e, data, v)
}
