package codec

import (
	"reflect"

	"github.com/fxamacker/cbor/v2"
)

// maxDepth is how deep arrays, maps and structs may be nested in a value. It bounds the stack that hostile bytes can make
// the decoder use, and it ends the walk through a value that contains itself. Marshal refuses what Unmarshal would.
const maxDepth = 128

// formsByMode lists the modes: which of the marshal methods the library heeds. A type is encoded in the first mode that
// suits all types in it, so the order is part of the format. Fewer forms come first because the library then looks for
// fewer methods at each string it decodes; binary comes before text and JSON because it is the smallest, and because
// that is the form which a type has for codecs like this one.
var formsByMode = [...]forms{
	plain,
	inBinary,
	inBinary | inText,
	inText,
	inJSON,
	inBinary | inJSON,
	inBinary | inText | inJSON,
	inText | inJSON,
}

// modeSet is a set of indexes into formsByMode.
type modeSet uint8

const allModes modeSet = 1<<len(formsByMode) - 1

type mode struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

var modes = func() (ms [len(formsByMode)]mode) {
	for i, f := range formsByMode {
		ms[i] = newMode(f)
	}
	return ms
}()

func newMode(f forms) mode {
	enc := cbor.EncOptions{
		// Tagged, so that a time in an any is known for one. The other formats lose the offset or the nanoseconds.
		Time:    cbor.TimeRFC3339Nano,
		TimeTag: cbor.EncTagRequired,
		// Tagged too, so that a small number in an any stays a *big.Int.
		BigIntConvert: cbor.BigIntConvertNone,
		NaNConvert:    cbor.NaNConvertNone,
		InfConvert:    cbor.InfConvertNone,
		// As the json tag means it. The library's own rule also omits structs that would be empty.
		OmitEmpty:       cbor.OmitEmptyGoValue,
		BinaryMarshaler: cbor.BinaryMarshalerNone,
		// A MarshalCBOR method could write what Unmarshal refuses; that should fail at once.
		IndefLength: cbor.IndefLengthForbidden,
	}
	dec := cbor.DecOptions{
		MaxNestedLevels: maxDepth,
		// Counts need no limit: the library checks that the elements are really there, each in a byte at least, before
		// it makes room for them. With the default limit a long slice could be written and never read.
		MaxArrayElements: 1<<31 - 1,
		MaxMapPairs:      1<<31 - 1,
		IndefLength:      cbor.IndefLengthForbidden,
		SimpleValues:     onlyGoValues(),
		// We never write a key twice; who reads such bytes cannot know which of the two was meant.
		DupMapKey: cbor.DupMapKeyEnforcedAPF,
		// Exact, or a field named "id" could be filled from the entry of a field "ID".
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		// A Go string is any bytes.
		UTF8:              cbor.UTF8DecodeInvalid,
		IntDec:            cbor.IntDecConvertSignedOrFail,
		BigIntDec:         cbor.BigIntDecodePointer,
		DefaultMapType:    reflect.TypeFor[map[string]any](),
		BinaryUnmarshaler: cbor.BinaryUnmarshalerNone,
	}
	if f&inBinary != 0 {
		enc.BinaryMarshaler = cbor.BinaryMarshalerByteString
		dec.BinaryUnmarshaler = cbor.BinaryUnmarshalerByteString
	}
	if f&inText != 0 {
		enc.TextMarshaler = cbor.TextMarshalerTextString
		dec.TextUnmarshaler = cbor.TextUnmarshalerTextString
	}
	if f&inJSON != 0 {
		enc.JSONMarshalerTranscoder = jsonIn{}
		dec.JSONUnmarshalerTranscoder = jsonOut{}
	}
	return mode{must(enc.EncMode()), must(dec.DecMode())}
}

// onlyGoValues refuses the simple values that no Go value is written as. They would turn up in an any as a type of the
// library's.
func onlyGoValues() *cbor.SimpleValueRegistry {
	var opts []func(*cbor.SimpleValueRegistry) error
	for v := range 256 {
		reserved := 24 <= v && v <= 31
		goValue := 20 <= v && v <= 22 // false, true, null
		if !reserved && !goValue {
			opts = append(opts, cbor.WithRejectedSimpleValue(cbor.SimpleValue(v)))
		}
	}
	return must(cbor.NewSimpleValueRegistryFromDefaults(opts...))
}

// must is for options that are constants of this file.
func must[T any](v T, err error) T {
	if err != nil {
		panic("codec: " + err.Error())
	}
	return v
}
