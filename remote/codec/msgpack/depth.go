package msgpack

import (
	"reflect"
	"strings"
	"sync"
)

// tooDeep reports whether v is nested deeper than Unmarshal would take it. That also ends the walk through a value that
// contains itself, on which the library would use up the stack.
func tooDeep(v reflect.Value, depth int) bool {
	if depth > maxDepth {
		return true
	}
	switch v.Kind() {
	case reflect.Pointer:
		return !v.IsNil() && tooDeep(v.Elem(), depth)
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if isFlat(v.Type().Elem()) {
				break
			}
			if tooDeep(v.Index(i), depth+1) {
				return true
			}
		}
	case reflect.Map:
		for it := v.MapRange(); !isFlat(v.Type().Elem()) && it.Next(); {
			if tooDeep(it.Value(), depth+1) {
				return true
			}
		}
	case reflect.Struct:
		for _, i := range nestingFields(v.Type()) {
			if tooDeep(v.Field(i), depth+1) {
				return true
			}
		}
	}
	return false
}

// isFlat reports whether a value of type t has nothing in it. A type that encodes itself is left to its methods.
func isFlat(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map, reflect.Struct:
		return t == timeType || methodsOf(t).written != none
	}
	return true
}

var nesting sync.Map // reflect.Type to []int

// nestingFields returns the indexes of the struct's fields that are encoded and may have something in them.
func nestingFields(t reflect.Type) []int {
	if known, ok := nesting.Load(t); ok {
		return known.([]int)
	}
	var indexes []int
	for f := range t.Fields() {
		name, _, _ := strings.Cut(tagOf(f), ",")
		if name != "-" && (f.IsExported() || f.Anonymous) && !isFlat(f.Type) {
			indexes = append(indexes, f.Index[0])
		}
	}
	nesting.Store(t, indexes)
	return indexes
}
