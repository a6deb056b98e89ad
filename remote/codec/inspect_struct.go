package codec

import (
	"reflect"
	"slices"
)

func (in *inspector) visitStruct(t reflect.Type) *TypeError {
	if len(cborFields(t)) == 0 && hides(t) {
		return refuse("%v has no exported fields: nothing of it would be kept", t)
	}
	return (&structVisit{inspector: in, names: map[string]string{}}).fields(t, "")
}

// structVisit looks at the fields of one struct and of what is embedded in it, as they share their names.
type structVisit struct {
	*inspector
	names map[string]string // in the encoding, to the path in Go
	outer []reflect.Type    // the structs whose embedded fields are being looked at
}

func (s *structVisit) fields(t reflect.Type, path string) *TypeError {
	s.outer = append(s.outer, t)
	defer func() { s.outer = s.outer[:len(s.outer)-1] }()
	for _, f := range cborFields(t) {
		at := path + "." + f.Name
		if f.inlined {
			if err := s.inlined(f, at); err != nil {
				return err
			}
			continue
		}
		// encoding/json drops one of them, or both. That is known for APIs, but a cache should give back what it got.
		if other, ok := s.names[f.name]; ok {
			return refuse("%s and %s have the same name, %q: one or both would be lost", other, at, f.name)
		}
		s.names[f.name] = at
		if err := s.visit(f.Type); err != nil {
			return err.within(at)
		}
	}
	return nil
}

// inlined looks at an embedded struct. The library takes it apart, whatever methods it has.
func (s *structVisit) inlined(f field, at string) *TypeError {
	t := behind(f.Type)
	switch {
	case t == timeType, t == bigIntType, methodsOf(t).marshal != 0:
		return refuse("%v marshals itself, but not when it is embedded: name the field in its json tag", t).within(at)
	case slices.Contains(s.outer, t):
		return refuse("%v embeds itself", t).within(at)
	case len(cborFields(t)) == 0 && hides(t):
		if !f.IsExported() {
			return nil // not kept, as other unexported fields
		}
		return s.visitStruct(t).within(at)
	case f.Type.Kind() == reflect.Pointer && !f.IsExported():
		return refuse("an embedded pointer to an unexported struct cannot be set when it is read").within(at)
	}
	return s.fields(t, at)
}

// hides reports whether t, which has no fields that are encoded, has others, so that it would come back empty. The locks
// of package sync do not count: their state is not data.
func hides(t reflect.Type) bool {
	if t.PkgPath() == "sync" {
		switch t.Name() {
		case "Mutex", "RWMutex", "Once", "WaitGroup":
			return false
		}
	}
	for f := range t.Fields() {
		if !f.IsExported() && f.Name != "_" {
			return true
		}
	}
	return false
}

// keyProblem says why a map with keys of type t would not be the same map after decoding, or is empty.
func keyProblem(t reflect.Type) string {
	switch {
	case t == timeType:
		return "equal times may differ by == when decoded"
	case methodsOf(t).marshal != 0:
		return ""
	}
	switch t.Kind() {
	case reflect.Pointer:
		return "a pointer is another one when decoded"
	case reflect.Interface:
		return "what an interface holds may be of another type when decoded"
	case reflect.Array:
		return keyProblem(t.Elem())
	case reflect.Struct:
		return structKeyProblem(t)
	}
	return ""
}

func structKeyProblem(t reflect.Type) string {
	if t.NumField() != len(cborFields(t)) {
		return "it has fields that are not kept, so that keys would merge"
	}
	for _, f := range cborFields(t) {
		if why := keyProblem(f.Type); why != "" {
			return why
		}
	}
	return ""
}
