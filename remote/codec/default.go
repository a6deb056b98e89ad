package codec

import (
	"fmt"
	"reflect"
)

// Default is the codec for everything that Raw is not for: CBOR, a binary format that is smaller than JSON and several
// times faster to read, and that keeps what the package comment lists. What it would not keep is an error.
//
// It encodes a type by its fields, with the names and options of their json tags (a cbor tag goes first), or by the
// methods that the type marshals itself with.
var Default Codec = cborCodec{}

type cborCodec struct{}

// cborName changes when the options or the order of the modes do.
const cborName = "cbor-1"

// cborNull is what nil is encoded as.
const cborNull = 0xf6

func (cborCodec) Name() string { return cborName }

func (cborCodec) Marshal(v any) ([]byte, error) {
	if v == nil {
		return []byte{cborNull}, nil
	}
	rv := reflect.ValueOf(v)
	if rv.Kind() == reflect.Pointer && !rv.IsNil() {
		rv = rv.Elem()
	}
	p := planFor(rv.Type())
	if p.err != nil {
		return nil, p.err
	}
	if p.walk != nil {
		if err := p.walk(rv, 0); err != nil {
			err.Codec, err.Root = cborName, rv.Type()
			return nil, err
		}
	}
	b, err := p.enc.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("codec %s: encode %v: %w", cborName, rv.Type(), err)
	}
	return b, nil
}

func (cborCodec) Unmarshal(data []byte, v any) (err error) {
	defer contain(cborName, v, &err)
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer || rv.IsNil() {
		return fmt.Errorf("codec %s: decode: not a non-nil pointer: %T", cborName, v)
	}
	p := planFor(rv.Type().Elem())
	if p.err != nil {
		return p.err
	}
	if err := p.dec.Unmarshal(data, v); err != nil {
		return decodeError(cborName, v, err)
	}
	return nil
}

// Check implements Checker.
func (cborCodec) Check(t reflect.Type) error {
	if t == nil {
		return nil
	}
	if p := planFor(t); p.err != nil {
		return p.err
	}
	return nil
}
