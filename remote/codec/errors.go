package codec

import (
	"fmt"
	"reflect"
)

// TypeError reports a type, or a value of an interface type, that a codec refuses because it would not come back as it
// was. It is returned by Marshal, Unmarshal and Check, possibly wrapped.
type TypeError struct {
	// Codec is the name of the codec that refuses.
	Codec string
	// Root is the type that was to be encoded or decoded.
	Root reflect.Type
	// Path leads from Root to the culprit, as in ".Orders[].Total"; it is empty if that is Root itself.
	Path string
	// Reason says what is wrong with it.
	Reason string
}

// Error returns the codec, the type, the path and the reason in one line.
func (e *TypeError) Error() string {
	return fmt.Sprintf("codec %s: %v%s: %s", e.Codec, e.Root, e.Path, e.Reason)
}

// within returns e as seen from the container that holds it at the given step. It changes e, which is still private to
// the walk that found it.
func (e *TypeError) within(step string) *TypeError {
	e.Path = step + e.Path
	return e
}

func refuse(format string, args ...any) *TypeError {
	return &TypeError{Reason: fmt.Sprintf(format, args...)}
}

// decodeError wraps what went wrong with bytes that were to be decoded into what v points to.
func decodeError(codec string, v any, err error) error {
	return fmt.Errorf("codec %s: decode into %T: %w", codec, v, err)
}

// contain makes a panic into an error. The codecs below do not panic, but they call UnmarshalBinary and the like of types
// that we do not know, with bytes from Redis; several such methods are known to index before they look at the length.
func contain(codec string, v any, err *error) {
	if p := recover(); p != nil {
		*err = decodeError(codec, v, fmt.Errorf("panic: %v", p))
	}
}
