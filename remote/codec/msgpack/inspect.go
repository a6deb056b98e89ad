package msgpack

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/tandemcache/tandem/remote/codec"
)

// plan is what the codec knows of a type.
type plan struct {
	err         *codec.TypeError
	fingerprint uint64
	recursive   bool // values may be nested without end
	custom      bool // some of it marshals itself as msgpack
}

var plans sync.Map // reflect.Type to *plan

func planFor(t reflect.Type) *plan {
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	actual, _ := plans.LoadOrStore(t, inspect(t))
	return actual.(*plan)
}

// inspector walks a type, once, to find what in it the library would not keep, and describes it on the way.
//
// The description depends on what the encoding depends on: kinds, lengths, names of fields and their tags; and not on how
// types are called, but for those that encode themselves.
type inspector struct {
	plan

	visits map[visit]int // number of each
	open   map[reflect.Type]bool
	path   []string
	text   strings.Builder
}

// visit is a type, as it is met in a place with or without an address.
type visit struct {
	t           reflect.Type
	addressable bool
}

func inspect(t reflect.Type) *plan {
	in := inspector{visits: map[visit]int{}, open: map[reflect.Type]bool{}}
	if reason := in.visit(t, true); reason != "" {
		in.err = &codec.TypeError{Codec: name, Root: t, Path: strings.Join(in.path, ""), Reason: reason}
	}
	in.fingerprint = xxhash.Sum64String(in.text.String())
	return &in.plan
}

// visit describes t and returns why it is not kept, or "". The path then leads to the culprit.
func (in *inspector) visit(t reflect.Type, addressable bool) (problem string) {
	if in.open[t] {
		in.recursive = true
	}
	v := visit{t, addressable}
	if n, ok := in.visits[v]; ok {
		in.text.WriteString("#" + strconv.Itoa(n))
		return ""
	}
	in.visits[v] = len(in.visits)
	if len(in.path) > maxDepth/2 {
		return "it is nested too deep"
	}
	if t == timeType {
		in.text.WriteString("time")
		return ""
	}
	if t.Kind() != reflect.Pointer {
		m := methodsOf(t)
		switch problem := m.problem(t); {
		case problem != "":
			return problem
		case m.written != none:
			return in.visitMethods(t, m, addressable)
		}
	}
	was := in.open[t]
	in.open[t] = true
	defer func() { in.open[t] = was }()
	return in.visitKind(t, addressable)
}

var timeType = reflect.TypeFor[time.Time]()

func (in *inspector) visitMethods(t reflect.Type, m methods, addressable bool) string {
	if m.onPointer && !addressable {
		return fmt.Sprintf("%v has its methods on the pointer: make it a map of pointers", t)
	}
	in.custom = in.custom || m.written == byEncoder || m.written == byMarshaler
	fmt.Fprintf(&in.text, "%s %s.%s", marshalerOf(m.written), t.PkgPath(), t.Name())
	return ""
}

func (in *inspector) visitKind(t reflect.Type, addressable bool) string {
	in.text.WriteString(t.Kind().String())
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return ""
	case reflect.Pointer:
		switch t.Elem().Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			return fmt.Sprintf("a %v may point to a nil, which would come back as a nil pointer", t)
		}
		return in.visitIn("", t.Elem(), true)
	case reflect.Slice:
		return in.visitIn("[]", t.Elem(), true)
	case reflect.Array:
		in.text.WriteString(" " + strconv.Itoa(t.Len()))
		return in.visitIn("[]", t.Elem(), addressable)
	case reflect.Map:
		if problem := in.visitKey(t.Key()); problem != "" {
			return problem
		}
		return in.visitIn("[]", t.Elem(), false)
	case reflect.Struct:
		return in.visitStruct(t, addressable)
	case reflect.Interface:
		return fmt.Sprintf("the bytes do not tell what an %v holds: use codec.Default", t)
	}
	return fmt.Sprintf("a %v cannot be encoded", t.Kind())
}

// visitIn visits a part of the type that is being visited.
func (in *inspector) visitIn(step string, t reflect.Type, addressable bool) string {
	in.path = append(in.path, step)
	in.text.WriteString("(")
	if problem := in.visit(t, addressable); problem != "" {
		return problem
	}
	in.text.WriteString(")")
	in.path = in.path[:len(in.path)-1]
	return ""
}

// visitKey takes keys that are equal again after decoding.
func (in *inspector) visitKey(t reflect.Type) string {
	elem := t
	for elem.Kind() == reflect.Array {
		elem = elem.Elem()
	}
	switch {
	case elem == timeType, elem.Kind() == reflect.Pointer,
		elem.Kind() == reflect.Struct && methodsOf(elem).written == none:
		return fmt.Sprintf("a %v is not kept as the key of a map", t)
	}
	return in.visitIn("[key]", t, false)
}

func (in *inspector) visitStruct(t reflect.Type, addressable bool) string {
	s := structOf(t)
	switch {
	case s.problem != "":
		in.path = append(in.path, s.path)
		return s.problem
	case len(s.fields) == 0 && t.NumField() > 0:
		return fmt.Sprintf("%v has no exported field", t)
	}
	if s.positional {
		in.text.WriteString(" as_array")
	} else {
		slices.SortFunc(s.fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	}
	for _, f := range s.fields {
		fmt.Fprintf(&in.text, " %q %q", f.name, f.tag)
		if problem := in.visitIn("."+f.path, f.t, addressable); problem != "" {
			return problem
		}
	}
	return ""
}
