package codec

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"reflect"
	"strings"
	"sync"
)

// inspector walks a type, once, to find out whether the library keeps its values and in which modes. Whatever it lets
// pass, the library must give back as it was; the walk refuses what the library would drop or mix up without an error.
type inspector struct {
	seen  map[reflect.Type]bool
	modes modeSet        // those that suit all types seen so far
	selfs []reflect.Type // types that encode themselves and so restrict the modes, for the error
}

// inspect returns the mode for values of type t, or the reason why there is none.
func inspect(t reflect.Type) (mode, *TypeError) {
	in := inspector{seen: map[reflect.Type]bool{}, modes: allModes}
	if err := in.visit(t); err != nil {
		return mode{}, err
	}
	if in.modes == 0 {
		return mode{}, in.conflict()
	}
	return modes[bits.TrailingZeros8(uint8(in.modes))], nil
}

func (in *inspector) visit(t reflect.Type) *TypeError {
	if in.seen[t] {
		return nil
	}
	in.seen[t] = true
	if t == timeType || t == bigIntType {
		return nil // the library knows them
	}
	if plain, err := in.visitMethods(t); err != nil || !plain {
		return err
	}
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return nil
	case reflect.Pointer:
		if behind(t).Kind() == reflect.Pointer {
			return refuse("more than %d pointers in a row", maxPointers)
		}
		return in.visit(t.Elem())
	case reflect.Slice, reflect.Array:
		if isBytes(t) || isByteArray(t) {
			return nil // a byte string, whatever the element type is called
		}
		return in.visitIn("[]", t.Elem())
	case reflect.Map:
		if why := keyProblem(t.Key()); why != "" {
			return refuse("map key %v: %s", t.Key(), why)
		}
		if err := in.visitIn("[key]", t.Key()); err != nil {
			return err
		}
		return in.visitIn("[]", t.Elem())
	case reflect.Struct:
		return in.visitStruct(t)
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return refuse("%v is an interface with methods: nothing says which type to make when it is read", t)
		}
		return nil // what it holds is looked at by Marshal
	}
	return refuse("a %v cannot be encoded", t.Kind())
}

func (in *inspector) visitIn(step string, t reflect.Type) *TypeError {
	if err := in.visit(t); err != nil {
		return err.within(step)
	}
	return nil
}

// visitMethods strikes out the modes in which the methods of t are not used in pairs. It reports whether t is encoded by
// its kind, so that what it consists of must be looked at.
func (in *inspector) visitMethods(t reflect.Type) (isPlain bool, err *TypeError) {
	m := methodsOf(t)
	if m == (methods{}) {
		return true, nil
	}
	if m.marshal != 0 && m.pairs() == 0 && t != rawMessageType {
		return false, refuse("%v has methods to marshal itself (%v) but none to unmarshal what they give", t, m.marshal)
	}
	var suit modeSet
	for i, mode := range formsByMode {
		if m.suits(t, mode) {
			suit |= 1 << i
		}
	}
	if suit == 0 {
		return false, m.whyNever(t)
	}
	if suit != allModes {
		in.modes &= suit
		in.selfs = append(in.selfs, t)
	}
	return m.marshal == 0 || t == rawMessageType, nil
}

// rawMessageType is the one type with marshal methods that may be encoded by its kind, its bytes, which keeps it exactly.
var rawMessageType = reflect.TypeFor[json.RawMessage]()

// suits reports whether in this mode a variable of type t, with these methods, is decoded in the form that it was
// encoded in.
func (m methods) suits(t reflect.Type, mode forms) bool {
	w := m.written(mode)
	switch {
	case m.read(t, mode, w) != w:
		return false
	case m.marshal == 0 || t == rawMessageType:
		return true
	case w == plain:
		return false // it has its own form for a reason, be it fields that are not exported or a secret
	case w == inText && m.pairs()&inJSON != 0:
		return false // the text may be a short form, for keys of maps, or one in which null and "" are the same
	}
	return lender(t, w) == nil
}

func (m methods) whyNever(t reflect.Type) *TypeError {
	for _, o := range formOrder {
		if m.pairs()&o.form == 0 {
			continue
		}
		if l := lender(t, o.form); l != nil {
			return refuse("%v embeds %v, and may have its Marshal%s from there: the other fields would be lost; "+
				"embed nothing that marshals itself", t, l, o.name)
		}
	}
	return refuse("%v can be read from %v but is not written so", t, m.unmarshal)
}

// lender returns the embedded type from which the struct t may have borrowed its method for the form, although it has
// more fields than that one. Reflection cannot tell a borrowed method from an own one, so both are refused.
func lender(t reflect.Type, form forms) reflect.Type {
	if t.Kind() != reflect.Struct {
		return nil
	}
	kept := len(cborFields(t))
	for f := range t.Fields() {
		if !f.Anonymous || !lends(behind(f.Type), form) {
			continue
		}
		if kept > 1 || kept == 1 && !f.IsExported() && behind(f.Type).Kind() != reflect.Struct {
			return f.Type
		}
	}
	return nil
}

func lends(t reflect.Type, form forms) bool {
	if t.Kind() != reflect.Interface {
		return methodsOf(t).marshal&form != 0
	}
	for _, o := range formOrder {
		if o.form == form {
			return t.Implements(o.marshal)
		}
	}
	return false
}

// conflict is the error for types of which each could be kept, but not all in one value.
func (in *inspector) conflict() *TypeError {
	var list []string
	for _, t := range in.selfs {
		m := methodsOf(t)
		list = append(list, fmt.Sprintf("%v (%v)", t, m.pairs()|m.unmarshal&^m.marshal))
	}
	return refuse("these types marshal themselves in ways that do not go together: %s; use codec.JSON, "+
		"or give one of them MarshalCBOR and UnmarshalCBOR", strings.Join(list, ", "))
}

// plan is what Default knows of a type.
type plan struct {
	mode
	walk walker // nil if the type alone says that every value is kept
	err  *TypeError
}

var plans sync.Map // reflect.Type to *plan

func planFor(t reflect.Type) *plan {
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	p := &plan{}
	if p.mode, p.err = inspect(t); p.err == nil {
		p.walk = walkerFor(t)
	} else {
		p.err.Codec, p.err.Root = cborName, t
	}
	actual, _ := plans.LoadOrStore(t, p)
	return actual.(*plan)
}
