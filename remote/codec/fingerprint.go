package codec

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Fingerprint returns a number for the structure of type t as c encodes it. Entries whose fingerprints differ must not be
// decoded into each other's type: fields with other names would be left empty without an error.
//
// It depends on the codec's name, on the kinds that t is made of, on the lengths of arrays, and on the name and the json
// and cbor tags of each exported field, whatever their order. It does not depend on the names and packages of types, so
// these can be changed without losing what is cached. The exception are types with methods to marshal themselves, and
// time.Time: they are known by package path, name and the kinds of methods only, as their form is not in their fields.
//
// The number is the same in every process and build. For Raw, it is the same for every type. A codec that implements
// Fingerprinter decides by itself.
func Fingerprint(c Codec, t reflect.Type) uint64 {
	if f, ok := c.(Fingerprinter); ok {
		return f.Fingerprint(t)
	}
	if c == Raw {
		return xxhash.Sum64String(rawName)
	}
	g := graph{codec: c, index: map[reflect.Type]int{}}
	root := g.add(t)
	return xxhash.Sum64String(c.Name() + "\n" + strconv.FormatUint(g.hashes()[root], 16))
}

// graph holds a type and all that it is made of. Types may contain themselves, so that there is no last one to begin
// with. Each node is therefore hashed by its label alone at first, and then again and again together with the hashes that
// its neighbours had in the round before. After n rounds, a node's hash tells everything within n steps of it, and nothing
// else: neither how the types are called, nor whether two equal parts are one type or two.
type graph struct {
	codec Codec
	index map[reflect.Type]int
	nodes []node
}

type node struct {
	label string
	edges []edge
}

type edge struct {
	label string
	to    int
}

// rounds is how far from the root a difference may lie and still be seen: as far as a value can be nested, with a pointer
// at each level.
const rounds = 2 * maxDepth

func (g *graph) hashes() []uint64 {
	now, next := make([]uint64, len(g.nodes)), make([]uint64, len(g.nodes))
	var parts []string
	for range rounds {
		for i, n := range g.nodes {
			parts = parts[:0]
			for _, e := range n.edges {
				parts = append(parts, string(binary.BigEndian.AppendUint64([]byte(e.label), now[e.to])))
			}
			slices.Sort(parts) // fields count in any order
			next[i] = hashOf(n.label, parts)
		}
		now, next = next, now
	}
	return now
}

// hashOf hashes strings so that it matters where one ends and the next begins.
func hashOf(label string, parts []string) uint64 {
	var h xxhash.Digest
	h.Reset()
	for _, s := range append([]string{label}, parts...) {
		_, _ = h.WriteString(strconv.Itoa(len(s)) + ":" + s) // never fails
	}
	return h.Sum64()
}

// add returns the index of t's node, made on the first call.
func (g *graph) add(t reflect.Type) int {
	if i, ok := g.index[t]; ok {
		return i
	}
	i := len(g.nodes)
	g.index[t] = i
	g.nodes = append(g.nodes, node{})
	n := g.describe(t) // which adds nodes
	g.nodes[i] = n
	return i
}

func (g *graph) describe(t reflect.Type) node {
	label := t.Kind().String()
	m := methodsOf(t)
	if m != (methods{}) {
		// The methods decide in which form the type is encoded, so a new one makes a new type.
		label += fmt.Sprintf(" marshal=%x unmarshal=%x", uint8(m.marshal), uint8(m.unmarshal))
	}
	if t == timeType || m.marshal != 0 || t.Kind() == reflect.Interface && t.NumMethod() > 0 {
		return node{label: label + " " + nameOf(t)}
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return node{label, []edge{{"elem", g.add(t.Elem())}}}
	case reflect.Array:
		return node{label + " " + strconv.Itoa(t.Len()), []edge{{"elem", g.add(t.Elem())}}}
	case reflect.Map:
		return node{label, []edge{{"key", g.add(t.Key())}, {"elem", g.add(t.Elem())}}}
	case reflect.Struct:
		return g.describeStruct(label, t)
	}
	return node{label: label}
}

func (g *graph) describeStruct(label string, t reflect.Type) node {
	positional := isArray(t)
	if positional {
		label += " toarray"
	}
	n := node{label: label}
	for _, f := range g.fieldsOf(t) {
		name := f.Name
		if f.inlined {
			name = "" // an embedded type's name is not in the encoding
		}
		if positional {
			name = strconv.Itoa(f.Index[0]) + name // its fields are told apart by their order
		}
		e := edge{label: fmt.Sprintf("%q json:%q cbor:%q ", name, f.Tag.Get("json"), f.Tag.Get("cbor"))}
		e.to = g.add(f.Type)
		n.edges = append(n.edges, e)
	}
	return n
}

func nameOf(t reflect.Type) string {
	if t.Name() == "" {
		return t.String() // a struct without a name can have methods from what it embeds
	}
	return t.PkgPath() + "." + t.Name()
}

// fieldsOf returns the fields that the codec sees, and of a codec we do not know all that it can see.
func (g *graph) fieldsOf(t reflect.Type) []field {
	switch g.codec {
	case Default:
		return cborFields(t)
	case JSON:
		return fieldsOf(t, "json")
	}
	return fieldsOf(t)
}

// isArray reports whether the library encodes t as an array, without names.
func isArray(t reflect.Type) bool {
	f, ok := t.FieldByName("_")
	if !ok {
		return false
	}
	_, opts, _ := strings.Cut(f.Tag.Get("cbor"), ",")
	return slices.Contains(strings.Split(opts, ","), "toarray")
}
