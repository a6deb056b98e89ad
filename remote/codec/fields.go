package codec

import (
	"math/big"
	"reflect"
	"strings"
	"time"
)

var (
	timeType   = reflect.TypeFor[time.Time]()
	bigIntType = reflect.TypeFor[big.Int]()
)

// field is a struct field that a codec sees.
type field struct {
	reflect.StructField
	// name is the one in the encoding; empty if inlined.
	name string
	// inlined is set for an embedded struct whose fields are encoded as if they were the outer struct's.
	inlined bool
}

// fieldsOf returns the fields of t that are encoded, by the rules of encoding/json, which the library follows. tags names
// the struct tags to look at, the first one that is there decides.
func fieldsOf(t reflect.Type, tags ...string) []field {
	fields := make([]field, 0, t.NumField())
	for f := range t.Fields() {
		if !f.IsExported() && (!f.Anonymous || behind(f.Type).Kind() != reflect.Struct) {
			continue
		}
		tag := tagOf(f, tags)
		if tag == "-" {
			continue
		}
		name, _, _ := strings.Cut(tag, ",")
		inlined := name == "" && f.Anonymous && behind(f.Type).Kind() == reflect.Struct
		if name == "" && !inlined {
			name = f.Name
		}
		fields = append(fields, field{StructField: f, name: name, inlined: inlined})
	}
	return fields
}

func tagOf(f reflect.StructField, tags []string) string {
	for _, key := range tags {
		if tag := f.Tag.Get(key); tag != "" {
			return tag
		}
	}
	return ""
}

// cborFields returns the fields that Default encodes.
func cborFields(t reflect.Type) []field { return fieldsOf(t, "cbor", "json") }

// behind returns what a chain of pointers ends in; a type that consists of nothing but pointers to itself is returned as
// a pointer.
func behind(t reflect.Type) reflect.Type {
	for range maxPointers {
		if t.Kind() != reflect.Pointer {
			break
		}
		t = t.Elem()
	}
	return t
}

// maxPointers is how many pointers in a row we follow. It is there for "type P *P".
const maxPointers = 8
