// Package protobuf is a codec for Protocol Buffers, by google.golang.org/protobuf: for caches whose V is a pointer to a
// generated message. It is a module of its own, so that those who do not use it do not depend on that library.
//
// A message comes back as it was, with its unknown fields. A nil message is refused: a loader that finds nothing returns
// ErrNotFound. So are messages that lack required fields, strings that are not UTF-8, and messages nested more than 128
// levels deep.
//
// # Releases
//
// Protocol Buffers let an old and a new release read each other's messages, with what the other does not know left empty
// or carried along unseen. In a cache that is a wrong value: a new field would look unset until the entry expires, though
// the source has it. Entries of different schemas therefore live beside each other, and each release loads its own. The
// fingerprint of a schema is made of the numbers, names, kinds and labels of all fields, and of enums with their values,
// of the message and all messages in it; names of messages and packages, comments and options do not count. Nor do
// extensions and what is in an Any: they are not in the descriptor. Where these change their meaning, use
// codec.Versioned.
//
// # Hostile bytes
//
// What bytes can claim is bounded by what they have: no length makes room for more than is there. A message takes two bytes
// at least in a list, and in memory as much as its struct, which is up to its fields.
package protobuf

import (
	"errors"
	"fmt"
	"reflect"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tandemcache/tandem/remote/codec"
)

// Codec is the codec. It implements codec.Checker and codec.Fingerprinter, and is safe for concurrent use.
var Codec codec.Codec = protobufCodec{}

type protobufCodec struct{}

// name changes when the options below do.
const name = "protobuf-1"

// maxDepth is how deep messages may be nested. It bounds the stack that hostile bytes make the library use, and ends the
// walk through a message that contains itself.
const maxDepth = 128

var decoding = proto.UnmarshalOptions{
	RecursionLimit: 2 * maxDepth, // an entry of a map may count as a level, too
	NoLazyDecoding: true,         // what is wrong shows now, and no reference to the bytes is kept
}

func (protobufCodec) Name() string { return name }

// Check implements codec.Checker.
func (protobufCodec) Check(t reflect.Type) error {
	if p := planFor(t); p.err != nil {
		return p.err
	}
	return nil
}

// Fingerprint implements codec.Fingerprinter. It is 0 for a type that Check refuses.
func (protobufCodec) Fingerprint(t reflect.Type) uint64 { return planFor(t).fingerprint }

func (protobufCodec) Marshal(v any) (b []byte, err error) {
	defer contain("encode", v, &err)
	m, ok := v.(proto.Message)
	if !ok {
		rv := reflect.ValueOf(v)
		if rv.Kind() != reflect.Pointer || rv.IsNil() {
			return nil, planFor(reflect.TypeOf(v)).refusal()
		}
		if m, ok = reflect.TypeAssert[proto.Message](rv.Elem()); !ok {
			return nil, planFor(rv.Type().Elem()).refusal()
		}
	}
	p := planFor(reflect.TypeOf(m))
	switch {
	case p.err != nil:
		return nil, p.err
	case !m.ProtoReflect().IsValid():
		return nil, fmt.Errorf("codec %s: encode %T: the message is nil", name, m)
	case p.recursive && tooDeep(m.ProtoReflect(), 0):
		return nil, fmt.Errorf("codec %s: encode %T: nested more than %d levels deep, or without end", name, m, maxDepth)
	}
	if b, err = proto.Marshal(m); err != nil {
		return nil, fmt.Errorf("codec %s: encode %T: %w", name, m, err)
	}
	return b, nil
}

func (protobufCodec) Unmarshal(data []byte, v any) (err error) {
	defer contain("decode", v, &err)
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer || rv.IsNil() {
		return fmt.Errorf("codec %s: decode: not a non-nil pointer: %T", name, v)
	}
	t := rv.Type().Elem()
	if p := planFor(t); p.err != nil {
		return p.err
	}
	m := reflect.New(t.Elem())
	if err := decoding.Unmarshal(data, m.Interface().(proto.Message)); err != nil {
		return fmt.Errorf("codec %s: decode into %T: %w", name, v, err)
	}
	rv.Elem().Set(m)
	return nil
}

// contain makes a panic into an error. The library is not known to panic; the bytes are anybody's.
func contain(what string, v any, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("codec %s: %s %T: panic: %v", name, what, v, p)
	}
}

// plan is what the codec knows of a type.
type plan struct {
	err         *codec.TypeError
	fingerprint uint64
	recursive   bool // messages may be nested without end
}

var plans sync.Map // reflect.Type to *plan

func planFor(t reflect.Type) *plan {
	if t == nil {
		return &plan{err: &codec.TypeError{Codec: name, Reason: "no type"}}
	}
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	p := &plan{}
	if desc, problem := descriptor(t); problem != "" {
		p.err = &codec.TypeError{Codec: name, Root: t, Reason: problem}
	} else {
		p.fingerprint, p.recursive = fingerprint(desc)
	}
	actual, _ := plans.LoadOrStore(t, p)
	return actual.(*plan)
}

// refusal is the error for a value that is no message.
func (p *plan) refusal() error {
	if p.err != nil {
		return p.err
	}
	return errors.New("codec " + name + ": a nil pointer to a message pointer")
}

var messageType = reflect.TypeFor[proto.Message]()

// descriptor returns that of the message that t points to, or why there is none.
func descriptor(t reflect.Type) (desc protoreflect.MessageDescriptor, problem string) {
	switch {
	case t.Kind() == reflect.Interface:
		return nil, "nothing says which message to make when it is read: use the type of one message"
	case t.Kind() == reflect.Struct && reflect.PointerTo(t).Implements(messageType):
		return nil, fmt.Sprintf("a message must not be copied: use *%v", t)
	case t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct || !t.Implements(messageType):
		return nil, "not a pointer to a message that is generated by protoc-gen-go"
	}
	const unknown = "its type does not tell which message it is: it is made at run time, or embeds a message"
	defer func() {
		if recover() != nil {
			desc, problem = nil, unknown
		}
	}()
	zero := reflect.Zero(t).Interface().(proto.Message).ProtoReflect()
	if reflect.TypeOf(zero.Interface()) != t {
		return nil, unknown
	}
	return zero.Descriptor(), ""
}

// tooDeep reports whether m is nested deeper than Unmarshal would take it.
func tooDeep(m protoreflect.Message, depth int) (deep bool) {
	if depth > maxDepth {
		return true
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() == nil {
				return true
			}
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				deep = tooDeep(v.Message(), depth+1)
				return !deep
			})
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				if deep = tooDeep(v.List().Get(i).Message(), depth+1); deep {
					break
				}
			}
		default:
			deep = tooDeep(v.Message(), depth+1)
		}
		return !deep
	})
	return deep
}
