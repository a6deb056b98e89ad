package remote

import "fmt"

// Schema says how a payload is to be read: by which codec, into which type. Entries of different schemas lie in different
// fields of one key, where they cannot be taken for each other and are all deleted at once.
type Schema struct {
	// Codec is the codec's name, 1 to 16 bytes of a-z, 0-9 and -.
	Codec string
	// Type is the fingerprint of the value's type as that codec sees it.
	Type uint64
}

// Field is the field of the envelope; the fields beside it add a suffix to it.
func (s Schema) Field() string { return fmt.Sprintf("%s.%016x", s.Codec, s.Type) }

const (
	leaseSuffix  = ".l"
	waiterSuffix = ".w"
	tagSuffix    = ".t" // read.lua is told of it, the other scripts know it
)
