// Package heapsize estimates the bytes of heap that a value keeps alive.
//
// It follows strings, slices, maps, pointers and interfaces by reflection and rounds each allocation up to the runtime's
// size class. It is an estimate: memory shared by two values counts for both, a map's buckets are counted from its
// length, and what hides behind a channel, a function or an unsafe.Pointer is not followed.
package heapsize

import (
	"reflect"
	"sync"
)

const (
	// maxSteps bounds the walk: past it the rest is extrapolated from what was seen, so that a value with a million
	// parts costs microseconds and not milliseconds on its way into the cache.
	maxSteps = 4096
	// maxDepth stops a list that is its own tail, together with the set of visited pointers.
	maxDepth = 64
	// Go's map keeps groups of eight slots with eight control bytes, at most 7/8 full and on average near two thirds.
	mapLoadPercent = 66
)

// Of returns the bytes of heap that *p refers to, without *p's own bytes.
func Of[T any](p *T) int64 {
	t := reflect.TypeFor[T]()
	if flat(t) {
		return 0
	}
	w := walker{}
	return w.inner(reflect.ValueOf(p).Elem(), 0)
}

type walker struct {
	steps int
	seen  map[visit]struct{}
}

type visit struct {
	at uintptr
	t  reflect.Type
}

// inner returns what v refers to; v's own bytes belong to whoever holds v.
func (w *walker) inner(v reflect.Value, depth int) int64 {
	w.steps++
	if depth > maxDepth || w.steps > maxSteps || flat(v.Type()) {
		return 0
	}
	switch v.Kind() {
	case reflect.String:
		return Class(int64(v.Len()))
	case reflect.Slice:
		return Class(int64(v.Cap())*int64(v.Type().Elem().Size())) + w.elements(v, depth)
	case reflect.Array:
		return w.elements(v, depth)
	case reflect.Struct:
		var n int64
		for _, field := range v.Fields() {
			n += w.inner(field, depth+1)
		}
		return n
	case reflect.Pointer:
		return w.pointer(v, depth)
	case reflect.Interface:
		if v.IsNil() {
			return 0
		}
		e := v.Elem()
		return Class(int64(e.Type().Size())) + w.inner(e, depth+1)
	case reflect.Map:
		return w.entries(v, depth)
	default:
		return 0
	}
}

func (w *walker) pointer(v reflect.Value, depth int) int64 {
	if v.IsNil() || !w.first(v.Pointer(), v.Type()) {
		return 0
	}
	return Class(int64(v.Type().Elem().Size())) + w.inner(v.Elem(), depth+1)
}

// elements sums what a slice's or array's elements refer to; one that runs into maxSteps is scaled up from its start.
func (w *walker) elements(v reflect.Value, depth int) int64 {
	if v.Len() == 0 || flat(v.Type().Elem()) {
		return 0
	}
	if v.Kind() == reflect.Slice && !w.first(v.Pointer(), v.Type()) {
		return 0
	}
	var n int64
	for i := range v.Len() {
		if w.steps > maxSteps {
			return n / int64(max(i, 1)) * int64(v.Len())
		}
		n += w.inner(v.Index(i), depth+1)
	}
	return n
}

func (w *walker) entries(v reflect.Value, depth int) int64 {
	if v.IsNil() || !w.first(v.Pointer(), v.Type()) {
		return 0
	}
	slot := int64(v.Type().Key().Size()+v.Type().Elem().Size()) + 1
	own := Class(48) + Class(int64(v.Len())*slot*100/mapLoadPercent)
	if flat(v.Type().Key()) && flat(v.Type().Elem()) {
		return own
	}
	var n, done int64
	for it := v.MapRange(); it.Next(); done++ {
		if w.steps > maxSteps {
			return own + n/max(done, 1)*int64(v.Len())
		}
		n += w.inner(it.Key(), depth+1) + w.inner(it.Value(), depth+1)
	}
	return own + n
}

// first reports whether the memory at this address was not counted yet, which also ends cycles.
func (w *walker) first(at uintptr, t reflect.Type) bool {
	if w.seen == nil {
		w.seen = make(map[visit]struct{})
	}
	if _, ok := w.seen[visit{at, t}]; ok {
		return false
	}
	w.seen[visit{at, t}] = struct{}{}
	return true
}

var flatTypes sync.Map // reflect.Type to bool

// flat reports whether a value of type t refers to no other memory, so that the walk can stop at it.
func flat(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Slice, reflect.Map, reflect.Pointer, reflect.Interface,
		reflect.Chan, reflect.Func, reflect.UnsafePointer:
		return false
	case reflect.Array, reflect.Struct:
		if known, ok := flatTypes.Load(t); ok {
			return known.(bool)
		}
		is := flatParts(t)
		flatTypes.Store(t, is)
		return is
	default:
		return true
	}
}

func flatParts(t reflect.Type) bool {
	if t.Kind() == reflect.Array {
		return flat(t.Elem())
	}
	for field := range t.Fields() {
		if !flat(field.Type) {
			return false
		}
	}
	return true
}
