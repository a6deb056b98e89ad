package codec

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"

	"github.com/fxamacker/cbor/v2"
)

// forms is a set of the ways in which a type can encode itself.
type forms uint8

const (
	inCBOR forms = 1 << iota
	inBinary
	inText
	inJSON

	// plain is the absence of them all: the value is encoded by its kind.
	plain forms = 0
)

// formOrder lists the forms as the library tries them when it encodes, each with the methods that make it up.
var formOrder = [...]struct {
	form               forms
	name               string
	marshal, unmarshal reflect.Type
}{
	{inCBOR, "CBOR", reflect.TypeFor[cbor.Marshaler](), reflect.TypeFor[cbor.Unmarshaler]()},
	{inBinary, "Binary", reflect.TypeFor[encoding.BinaryMarshaler](), reflect.TypeFor[encoding.BinaryUnmarshaler]()},
	{inText, "Text", reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[encoding.TextUnmarshaler]()},
	{inJSON, "JSON", reflect.TypeFor[json.Marshaler](), reflect.TypeFor[json.Unmarshaler]()},
}

func (f forms) String() string {
	var names []string
	for _, o := range formOrder {
		if f&o.form != 0 {
			names = append(names, o.name)
		}
	}
	return strings.Join(names, " or ")
}

// methods says which marshal and unmarshal methods a type has.
type methods struct{ marshal, unmarshal forms }

// methodsOf returns the methods that can be called on a variable of type t: those of the pointer count too, as they do
// for the library, which takes addresses where it has to.
func methodsOf(t reflect.Type) (m methods) {
	if t.Kind() == reflect.Interface || t.Kind() == reflect.Pointer {
		return methods{} // what it holds or points to encodes itself, or not
	}
	p := reflect.PointerTo(t)
	for _, o := range formOrder {
		if p.Implements(o.marshal) {
			m.marshal |= o.form
		}
		if p.Implements(o.unmarshal) {
			m.unmarshal |= o.form
		}
	}
	return m
}

// pairs returns the forms with both directions.
func (m methods) pairs() forms { return m.marshal & m.unmarshal }

// written returns the form in which the library encodes a value with these methods, in a mode that uses the forms in
// mode. CBOR methods are always used.
func (m methods) written(mode forms) forms {
	for _, o := range formOrder {
		if m.marshal&o.form&(mode|inCBOR) != 0 {
			return o.form
		}
	}
	return plain
}

// read returns the form in which the library decodes a variable of type t with these methods, from what was written in
// the form w. The library decides on decoding in another order than on encoding, and partly by what it finds in the
// bytes; it is for that reason that not every mode suits every type.
func (m methods) read(t reflect.Type, mode, w forms) forms {
	has := m.unmarshal & (mode | inCBOR)
	bytes := w == inBinary || w == plain && (isBytes(t) || isByteArray(t))
	text := w == inText || w == plain && t.Kind() == reflect.String
	switch {
	case has&inCBOR != 0:
		return inCBOR
	case has&inJSON != 0:
		return inJSON
	case has&inBinary != 0 && bytes:
		return inBinary
	case has&inText != 0 && text:
		return inText
	}
	return plain
}

func isByteArray(t reflect.Type) bool {
	return t.Kind() == reflect.Array && t.Elem().Kind() == reflect.Uint8
}
