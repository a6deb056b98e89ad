package msgpack

import (
	"encoding"
	"encoding/json"
	"reflect"

	"github.com/vmihailenco/msgpack/v5"
)

// form is a way in which a type encodes itself.
type form int

const (
	none form = iota
	byEncoder
	byMarshaler
	byBinary
	byText
)

// formOrder lists the forms in the order in which the library looks for them.
var formOrder = [...]struct {
	form                   form
	marshal, unmarshal     reflect.Type
	marshaler, unmarshaler string
}{
	{byEncoder, reflect.TypeFor[msgpack.CustomEncoder](), reflect.TypeFor[msgpack.CustomDecoder](), "EncodeMsgpack", "DecodeMsgpack"},
	{byMarshaler, reflect.TypeFor[msgpack.Marshaler](), reflect.TypeFor[msgpack.Unmarshaler](), "MarshalMsgpack", "UnmarshalMsgpack"},
	{byBinary, reflect.TypeFor[encoding.BinaryMarshaler](), reflect.TypeFor[encoding.BinaryUnmarshaler](), "MarshalBinary", "UnmarshalBinary"},
	{byText, reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[encoding.TextUnmarshaler](), "MarshalText", "UnmarshalText"},
}

var (
	jsonMarshaler  = reflect.TypeFor[json.Marshaler]()
	rawMessageType = reflect.TypeFor[json.RawMessage]() // it has JSON methods, and its bytes keep it
)

// methods says how the library writes and reads a variable of some type.
type methods struct {
	written, read form
	// onPointer says that it is written by a method of the pointer, which needs an address.
	onPointer bool
}

// methodsOf looks as the library does: at the methods of the type first, and then at those of the pointer to it.
func methodsOf(t reflect.Type) (m methods) {
	p := reflect.PointerTo(t)
	for _, o := range formOrder {
		if m.written == none && t.Implements(o.marshal) {
			m.written = o.form
		}
		if m.read == none && t.Implements(o.unmarshal) {
			m.read = o.form
		}
	}
	for _, o := range formOrder {
		if m.written == none && p.Implements(o.marshal) {
			m.written, m.onPointer = o.form, true
		}
		if m.read == none && p.Implements(o.unmarshal) {
			m.read = o.form
		}
	}
	return m
}

// problem returns why a type with these methods is not kept, or "".
func (m methods) problem(t reflect.Type) string {
	switch {
	case m.written == none && m.read == none:
		if t != rawMessageType && reflect.PointerTo(t).Implements(jsonMarshaler) {
			return "it has MarshalJSON, which is not used here, and no " + marshalerOf(byBinary) + " or the like: use codec.Default"
		}
		return ""
	case m.written == none:
		return "it has " + unmarshalerOf(m.read) + " but no method to marshal itself"
	case m.read == none:
		return "it has " + marshalerOf(m.written) + " but no method to unmarshal what that gives"
	case m.written != m.read:
		return "it would be written by " + marshalerOf(m.written) + " and read by " + unmarshalerOf(m.read)
	case borrows(t):
		return "it embeds a type that marshals itself, and may have its methods from there: the other fields would be lost"
	}
	return ""
}

// borrows reports whether the struct t may have its methods from a field that is not the only one.
func borrows(t reflect.Type) bool {
	if t.Kind() != reflect.Struct || t.NumField() < 2 {
		return false
	}
	for f := range t.Fields() {
		if !f.Anonymous {
			continue
		}
		ft := f.Type
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		if m := methodsOf(ft); m.written != none || m.read != none {
			return true
		}
	}
	return false
}

func marshalerOf(f form) string   { return formOrder[f-1].marshaler }
func unmarshalerOf(f form) string { return formOrder[f-1].unmarshaler }
