package codec

import (
	"bytes"
	"fmt"
	"reflect"
)

// Raw keeps strings and byte slices, and named types of these kinds, as the bytes they are. Both directions copy. Methods
// such as MarshalText are not called: the bytes are the value. A nil slice and an empty one both come back empty and not
// nil. Any other type is an error.
var Raw Codec = rawCodec{}

type rawCodec struct{}

const rawName = "raw"

func (rawCodec) Name() string { return rawName }

func (rawCodec) Marshal(v any) ([]byte, error) {
	switch x := v.(type) {
	case string:
		return []byte(x), nil
	case []byte:
		return copied(x), nil
	case *string:
		if x != nil {
			return []byte(*x), nil
		}
	case *[]byte:
		if x != nil {
			return copied(*x), nil
		}
	}
	rv := reflect.ValueOf(v)
	if rv.Kind() == reflect.Pointer && !rv.IsNil() {
		rv = rv.Elem()
	}
	switch {
	case rv.Kind() == reflect.String:
		return []byte(rv.String()), nil
	case rv.IsValid() && isBytes(rv.Type()):
		return copied(rv.Bytes()), nil
	}
	return nil, notRaw(reflect.TypeOf(v))
}

func (rawCodec) Unmarshal(data []byte, v any) error {
	switch x := v.(type) {
	case *string:
		if x != nil {
			*x = string(data)
			return nil
		}
	case *[]byte:
		if x != nil {
			*x = copied(data)
			return nil
		}
	}
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer || rv.IsNil() {
		return fmt.Errorf("codec %s: decode: not a non-nil pointer: %T", rawName, v)
	}
	switch rv = rv.Elem(); {
	case rv.Kind() == reflect.String:
		rv.SetString(string(data))
	case isBytes(rv.Type()):
		rv.SetBytes(copied(data))
	default:
		return notRaw(rv.Type())
	}
	return nil
}

// Check implements Checker.
func (rawCodec) Check(t reflect.Type) error {
	if t == nil || !isRaw(t) {
		return notRaw(t)
	}
	return nil
}

func isRaw(t reflect.Type) bool { return t.Kind() == reflect.String || isBytes(t) }

// isBytes reports whether t is a slice of bytes. The elements may have a named type: reflect treats it alike.
func isBytes(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
}

func notRaw(t reflect.Type) error {
	return &TypeError{Codec: rawName, Root: t, Reason: "neither a string nor a byte slice"}
}

// copied returns a copy of b that is not nil even if b is.
func copied(b []byte) []byte {
	if len(b) == 0 {
		return []byte{}
	}
	return bytes.Clone(b)
}
