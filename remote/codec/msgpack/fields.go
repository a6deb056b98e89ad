package msgpack

import (
	"reflect"
	"slices"
	"strings"
)

// field is a struct field that the library encodes.
type field struct {
	t    reflect.Type
	name string // in the encoding
	tag  string // all of it
	path string // Go names, by way of embedded structs
}

// structure is a struct as the library sees it.
type structure struct {
	fields     []field
	positional bool
	problem    string // why it is not kept
	path       string // to the culprit
}

// structOf returns t's fields, with those of embedded structs among them.
func structOf(t reflect.Type) (s structure) {
	s.add(t, "")
	seen := map[string]bool{}
	for _, f := range s.fields {
		if s.problem == "" && seen[f.name] {
			s.problem, s.path = "another field has the name "+f.name+" too", "."+f.path
		}
		seen[f.name] = true
	}
	return s
}

func (s *structure) add(t reflect.Type, path string) {
	for f := range t.Fields() {
		tag := tagOf(f)
		parts := strings.Split(tag, ",")
		if strings.TrimSpace(parts[0]) == "-" {
			continue
		}
		has := func(option string) bool {
			return slices.ContainsFunc(parts, func(p string) bool {
				p, _, _ = strings.Cut(strings.TrimSpace(p), ":")
				return p == option
			})
		}
		if f.Name == "_msgpack" && path == "" {
			s.positional = has("as_array") || has("asArray")
		}
		if !f.IsExported() && !f.Anonymous {
			continue
		}
		name := parts[0]
		if name == "" || strings.Contains(name, ":") {
			name = f.Name // as the library has it: what has a colon is an option
		}
		embedded := f.Anonymous && !has("noinline")
		plain := f.Type.Kind() == reflect.Struct && f.Type != timeType && methodsOf(f.Type) == methods{}
		switch {
		case strings.ContainsAny(tag, "'\"\\"):
			s.fail(path+f.Name, "its tag has quotes or backslashes")
		case has("intern"), has("alias"):
			s.fail(path+f.Name, "the options intern and alias are not supported")
		case f.Anonymous && f.Type.Kind() == reflect.Pointer:
			s.fail(path+f.Name, "an embedded pointer that is nil would come back as one to a zero value")
		case f.Anonymous && !f.IsExported() && (!embedded || !plain):
			s.fail(path+f.Name, "it is embedded, its type is not exported, and it is no plain struct")
		case embedded && plain:
			s.add(f.Type, path+f.Name+".")
		default:
			s.fields = append(s.fields, field{f.Type, name, tag, path + f.Name})
		}
	}
}

func tagOf(f reflect.StructField) string {
	if tag := f.Tag.Get("msgpack"); tag != "" {
		return tag
	}
	return f.Tag.Get(fallbackTag)
}

func (s *structure) fail(path, problem string) {
	if s.problem == "" {
		s.problem, s.path = problem, "."+path
	}
}
