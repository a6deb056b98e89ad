package codec

import "reflect"

// Entry says which entry bytes belong to.
type Entry struct {
	// Cache is the cache's name and Key the entry's key in it.
	Cache, Key string
	// Type is the Fingerprint of the value's type.
	Type uint64
}

// EntryCodec is implemented by a Codec whose bytes are of use in one entry only, such as one that encrypts, and by a Codec
// that hands values to another one, which may be such. Where a Codec implements it, these methods are called in place of
// Marshal and Unmarshal, whose contract they share.
type EntryCodec interface {
	Codec
	// MarshalEntry returns the encoding of v for the entry e.
	MarshalEntry(e Entry, v any) ([]byte, error)
	// UnmarshalEntry decodes data, which was found in the entry e, into what v points to. It fails on bytes that were
	// made for another entry, if the Codec binds them to theirs.
	UnmarshalEntry(e Entry, data []byte, v any) error
}

// MarshalFor returns c's encoding of v for the entry e, by MarshalEntry if c has that, else by Marshal.
func MarshalFor(c Codec, e Entry, v any) ([]byte, error) {
	if ec, ok := c.(EntryCodec); ok {
		return ec.MarshalEntry(e, v)
	}
	return c.Marshal(v)
}

// UnmarshalFor decodes what was found in the entry e, by UnmarshalEntry if c has that, else by Unmarshal.
func UnmarshalFor(c Codec, e Entry, data []byte, v any) error {
	if ec, ok := c.(EntryCodec); ok {
		return ec.UnmarshalEntry(e, data, v)
	}
	return c.Unmarshal(data, v)
}

// Fingerprinter is implemented by a Codec that knows better than Fingerprint what tells types apart in its encoding.
type Fingerprinter interface {
	// Fingerprint returns a number that differs between types whose encodings must not be decoded into each other, and
	// that is the same in every process and build. It is safe for concurrent use.
	Fingerprint(t reflect.Type) uint64
}
