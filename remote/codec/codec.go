package codec

import "reflect"

// Codec turns values into the bytes that are kept in Redis, and back.
//
// Every method is called from many goroutines at once.
type Codec interface {
	// Name returns the name of the format, [a-z0-9-]{1,16}, always the same one. It is stored beside the bytes, and
	// bytes under another name are never decoded; so it must change when the format becomes incompatible, and the
	// two formats may then live beside each other during a deploy.
	Name() string

	// Marshal returns the encoding of v, in a slice that belongs to the caller. v may also be a pointer to the value;
	// both give the same bytes. Where the value's static type is an interface, only the pointer tells so.
	//
	// It fails if v, or something in it, would not come back from Unmarshal with its meaning intact.
	Marshal(v any) ([]byte, error)

	// Unmarshal decodes data, all of it, into what v points to; v is a non-nil pointer to a zero value.
	//
	// It fails on bytes that Marshal cannot have written: cut short, trailing, of another format. What v points to is
	// then undefined. It must not panic and must not allocate more than a small multiple of what such bytes hold.
	// It must neither change data nor keep a reference to it, unless the codec's documentation says otherwise.
	Unmarshal(data []byte, v any) error
}

// Checker is implemented by a Codec that can tell from a type alone whether it keeps its values.
type Checker interface {
	// Check returns nil if values of type t can be encoded and decoded, and otherwise an error that names what in t
	// cannot. It is no promise about every value: what an interface field holds, for one, is seen by Marshal only.
	// It is safe for concurrent use.
	Check(t reflect.Type) error
}

// Check returns the reason why c does not keep values of type t, and nil if it does, or if c does not implement Checker.
// It is made for constructors, where a type that does not work should be reported: later, each entry would fail.
func Check(c Codec, t reflect.Type) error {
	if ch, ok := c.(Checker); ok {
		return ch.Check(t)
	}
	return nil
}

// ValidName reports whether name may be the name of a Codec: 1 to 16 bytes of a-z, 0-9 and -.
func ValidName(name string) bool {
	if len(name) < 1 || len(name) > 16 {
		return false
	}
	for i := range len(name) {
		switch b := name[i]; {
		case 'a' <= b && b <= 'z', '0' <= b && b <= '9', b == '-':
		default:
			return false
		}
	}
	return true
}
