// Package msgpack is a codec for MessagePack, by github.com/vmihailenco/msgpack/v5: for types that already have msgpack
// tags or methods of that library. For others, codec.Default keeps more: times with their offset, any, types that
// marshal themselves as JSON, embedded pointers.
//
// Struct fields are named by their msgpack tags, or else by their json tags. A value comes back as it was, or its type is
// refused, with one exception: of a time.Time the instant is kept, and comes back in the local zone. As elsewhere, what
// omitempty leaves out comes back as the zero value.
//
// Check, and so tiered.New, refuses a type with anything in it that the library would lose, mix up or not read again:
//
//   - interfaces, any too: the bytes do not tell what was in it, and an int comes back as another type for each size;
//   - functions, channels, complex numbers, uintptr, and structs without an exported field;
//   - pointers to pointers, slices and maps, as there is one nil for both;
//   - embedded pointers, embedded types that are not exported and no plain structs, and two fields of one name;
//   - types with MarshalJSON and no method that the library uses, those with one half of a pair of methods, those that
//     are written by another pair than they are read by, and those with methods on the pointer as values of maps;
//   - structs and times as keys of maps;
//   - the options intern and alias.
//
// Bytes are checked before the library sees them: what they claim to hold must be there, once and to the end, nested at
// most 128 levels deep. Extensions are read as bytes: a DecodeMsgpack method that reads items inside one fails.
package msgpack

import (
	"bytes"
	"fmt"
	"reflect"
	"sync"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/tandemcache/tandem/remote/codec"
)

// Codec is the codec. It implements codec.Checker and codec.Fingerprinter, and is safe for concurrent use.
var Codec codec.Codec = msgpackCodec{}

type msgpackCodec struct{}

// name changes when the options below do.
const name = "msgpack-1"

// fallbackTag is for fields without a msgpack tag.
const fallbackTag = "json"

// Our own pools: the library's hold decoders that have failed, with what they had recorded until then.
var (
	encoders = sync.Pool{New: func() any { return msgpack.NewEncoder(nil) }}
	decoders = sync.Pool{New: func() any { return msgpack.NewDecoder(nil) }}
)

func (msgpackCodec) Name() string { return name }

// Check implements codec.Checker.
func (msgpackCodec) Check(t reflect.Type) error {
	if t == nil {
		return &codec.TypeError{Codec: name, Root: t, Reason: "no type"}
	}
	if p := planFor(t); p.err != nil {
		return p.err
	}
	return nil
}

// Fingerprint implements codec.Fingerprinter.
func (msgpackCodec) Fingerprint(t reflect.Type) uint64 {
	if t == nil {
		return 0
	}
	return planFor(t).fingerprint
}

func (msgpackCodec) Marshal(v any) (b []byte, err error) {
	defer contain("encode", v, &err)
	rv := reflect.ValueOf(v)
	if !rv.IsValid() {
		return nil, &codec.TypeError{Codec: name, Reason: "no type"}
	}
	if rv.Kind() != reflect.Pointer {
		// Methods on pointers are called on what has an address only.
		p := reflect.New(rv.Type())
		p.Elem().Set(rv)
		rv = p
	}
	p := planFor(rv.Type().Elem())
	if p.err != nil {
		return nil, p.err
	}
	if p.recursive && tooDeep(rv, 0) {
		return nil, &codec.TypeError{Codec: name, Root: rv.Type().Elem(), Reason: fmt.Sprintf("nested more than %d levels deep, or without end", maxDepth)}
	}
	if b, err = encode(rv); err != nil {
		return nil, fmt.Errorf("codec %s: encode %T: %w", name, v, err)
	}
	if p.custom {
		// What a method has written must be what Unmarshal takes.
		if _, err := scan(b); err != nil {
			return nil, fmt.Errorf("codec %s: encode %T: one of its methods wrote %w", name, v, err)
		}
	}
	return b, nil
}

func encode(v reflect.Value) ([]byte, error) {
	enc := encoders.Get().(*msgpack.Encoder)
	var buf bytes.Buffer
	enc.Reset(&buf)
	enc.SetCustomStructTag(fallbackTag)
	enc.UseCompactInts(true)
	if err := enc.EncodeValue(v); err != nil {
		return nil, err // the encoder is not used again
	}
	enc.Reset(nil)
	encoders.Put(enc)
	return buf.Bytes(), nil
}

func (msgpackCodec) Unmarshal(data []byte, v any) (err error) {
	defer contain("decode", v, &err)
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer || rv.IsNil() {
		return fmt.Errorf("codec %s: decode: not a non-nil pointer: %T", name, v)
	}
	if p := planFor(rv.Type().Elem()); p.err != nil {
		return p.err
	}
	inside, err := scan(data)
	if err == nil {
		err = decode(&reader{data: data, inside: inside}, rv.Elem())
	}
	if err != nil {
		return fmt.Errorf("codec %s: decode into %T: %w", name, v, err)
	}
	return nil
}

func decode(r *reader, v reflect.Value) error {
	dec := decoders.Get().(*msgpack.Decoder)
	dec.Reset(r)
	dec.SetCustomStructTag(fallbackTag)
	dec.DisallowUnknownFields(true)
	if err := dec.DecodeValue(v); err != nil {
		return err // the decoder is not used again
	}
	dec.Reset(nil)
	decoders.Put(dec)
	if r.pos != len(r.data) {
		return fmt.Errorf("%d bytes are left over", len(r.data)-r.pos)
	}
	return nil
}

// contain makes a panic into an error: of a method of a type that we do not know, or of the library.
func contain(what string, v any, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("codec %s: %s %T: panic: %v", name, what, v, p)
	}
}
