package codec_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec"
)

func fingerprint[V any](c codec.Codec) uint64 { return codec.Fingerprint(c, reflect.TypeFor[V]()) }

// TestFingerprint_IsPinned has numbers that are in use: if one changes, a release loses all that is cached.
func TestFingerprint_IsPinned(t *testing.T) {
	t.Parallel()
	type pinned struct {
		ID     int64              `json:"id"`
		Names  []string           `json:"names,omitempty"`
		Attrs  map[string]any     `cbor:"a"`
		Parent *pinned            `json:"parent"`
		Hash   [32]byte           `json:"hash"`
		When   time.Time          `json:"when,omitzero"`
		Raw    json.RawMessage    `json:"raw"`
		Addr   netip.Addr         `json:"addr"`
		Inner  struct{ A, B int } `json:"inner"`
		Base
	}
	require.Equal(t, "939a374f9fde177d", fmt.Sprintf("%016x", fingerprint[pinned](codec.Default)))
	require.Equal(t, "2c3fb2633dc6d4c1", fmt.Sprintf("%016x", fingerprint[pinned](codec.JSON)))
	require.Equal(t, "67be920e14d52a62", fmt.Sprintf("%016x", fingerprint[string](codec.Raw)))
}

func TestFingerprint_Raw(t *testing.T) {
	t.Parallel()
	type text string
	want := fingerprint[string](codec.Raw)
	require.Equal(t, want, fingerprint[[]byte](codec.Raw))
	require.Equal(t, want, fingerprint[text](codec.Raw))
	require.Equal(t, want, fingerprint[json.RawMessage](codec.Raw))
	require.NotEqual(t, fingerprint[string](codec.Default), fingerprint[[]byte](codec.Default))
}

type other struct{ codec.Codec }

func (other) Name() string { return "other" }

func TestFingerprint_DependsOnTheCodec(t *testing.T) {
	t.Parallel()
	require.NotEqual(t, fingerprint[user](codec.Default), fingerprint[user](codec.JSON))
	require.NotEqual(t, fingerprint[user](codec.Default), fingerprint[user](other{}))
}

func TestFingerprint_ForgetsNamesOfTypes(t *testing.T) {
	t.Parallel()
	type (
		id      int64
		item    struct{ Price float64 }
		product struct{ Price float64 }
		order   struct {
			ID    int64
			Items []item
			First *item
			Best  map[string]item
			note  string
		}
		purchase struct { // another order of fields, another unexported one, other names of types, two for one
			Best  map[string]product
			First *item
			state int
			Items []product
			ID    id
		}
		nested  struct{ O order }
		nested2 struct{ O purchase }
	)
	for _, c := range []codec.Codec{codec.Default, codec.JSON, other{}} {
		require.Equal(t, fingerprint[order](c), fingerprint[purchase](c))
		require.Equal(t, fingerprint[nested](c), fingerprint[nested2](c))
		require.Equal(t, fingerprint[[]order](c), fingerprint[[]purchase](c))
		require.Equal(t, fingerprint[struct{}](c), fingerprint[struct{ a, b int }](c))
	}
	require.Equal(t, fingerprint[struct{ Base }](codec.Default), fingerprint[struct{ Basis }](codec.Default))
}

type Basis struct{ ID, Rev int }

// TestFingerprint_TellsStructuresApart compares each with each.
func TestFingerprint_TellsStructuresApart(t *testing.T) {
	t.Parallel()
	type recursive struct {
		A    int
		Next *recursive
	}
	types := []reflect.Type{
		reflect.TypeFor[struct{ A int }](),
		reflect.TypeFor[struct{ B int }](),
		reflect.TypeFor[struct{ A int64 }](),
		reflect.TypeFor[struct{ A *int }](),
		reflect.TypeFor[struct{ A []int }](),
		reflect.TypeFor[struct{ A [1]int }](),
		reflect.TypeFor[struct{ A [2]int }](),
		reflect.TypeFor[struct{ A map[int]int }](),
		reflect.TypeFor[struct{ A map[string]int }](),
		reflect.TypeFor[struct{ A map[int]string }](),
		reflect.TypeFor[struct{ A any }](),
		reflect.TypeFor[struct{ A error }](),
		reflect.TypeFor[struct{ A fmt.Stringer }](),
		reflect.TypeFor[struct{ A time.Time }](),
		reflect.TypeFor[struct{ A textOnly }](),
		reflect.TypeFor[struct{ A binaryText }](),
		reflect.TypeFor[struct{ A viaPointer }](),
		reflect.TypeFor[struct{ A readsText }](),
		reflect.TypeFor[struct{ A struct{ textOnly } }](),
		reflect.TypeFor[struct{ A struct{ binaryText } }](),
		reflect.TypeFor[struct{ A string }](),
		reflect.TypeFor[struct{ A, B int }](),
		reflect.TypeFor[struct{ A struct{ B int } }](),
		reflect.TypeFor[struct{ A struct{ C int } }](),
		reflect.TypeFor[struct {
			A int `json:"a"`
		}](),
		reflect.TypeFor[struct {
			A int `json:"a,omitempty"`
		}](),
		reflect.TypeFor[struct {
			A int `cbor:"a"`
		}](),
		reflect.TypeFor[struct{ Base }](),
		reflect.TypeFor[struct{ Base Base }](),
		reflect.TypeFor[recursive](),
		reflect.TypeFor[*recursive](),
		reflect.TypeFor[struct {
			A    int
			Next *struct {
				A    int
				Next *struct{ A int }
			}
		}](),
		reflect.TypeFor[struct{}](),
		reflect.TypeFor[int](),
		reflect.TypeFor[string](),
		reflect.TypeFor[[]string](),
		reflect.TypeFor[[]byte](),
	}
	for _, c := range []codec.Codec{codec.Default, codec.JSON, other{}} {
		seen := map[uint64]reflect.Type{}
		for _, typ := range types {
			fp := codec.Fingerprint(c, typ)
			require.NotContains(t, seen, fp, "%v and %v", typ, seen[fp])
			seen[fp] = typ
		}
	}
}

func TestFingerprint_ExcludedFields(t *testing.T) {
	t.Parallel()
	type plain struct{ A int }
	type jsonDash struct {
		A int
		B func() `json:"-"`
	}
	type cborDash struct {
		A int
		B int `cbor:"-"`
	}
	require.Equal(t, fingerprint[plain](codec.Default), fingerprint[jsonDash](codec.Default))
	require.Equal(t, fingerprint[plain](codec.JSON), fingerprint[jsonDash](codec.JSON))
	require.Equal(t, fingerprint[plain](codec.Default), fingerprint[cborDash](codec.Default))
	require.NotEqual(t, fingerprint[plain](codec.JSON), fingerprint[cborDash](codec.JSON))
	require.NotEqual(t, fingerprint[plain](other{}), fingerprint[jsonDash](other{}), "it may not heed the tag")
}

func TestFingerprint_OrderCountsInArrays(t *testing.T) {
	t.Parallel()
	type ab struct {
		_    struct{} `cbor:",toarray"`
		A, B int
	}
	type ba struct {
		_    struct{} `cbor:",toarray"`
		B, A int
	}
	require.NotEqual(t, fingerprint[ab](codec.Default), fingerprint[ba](codec.Default))
}

type (
	mutualA struct{ B *mutualB }
	mutualB struct {
		A   *mutualA
		End int
	}
	mutualC struct{ B *mutualD }
	mutualD struct {
		A   *mutualC
		End string
	}
	mutualE struct{ B *mutualF }
	mutualF struct {
		A   *mutualA // of the first pair, which has the same structure
		End int
	}
	selfSlice []selfSlice
	selfMap   map[string]selfMap
)

func TestFingerprint_RecursiveTypes(t *testing.T) {
	t.Parallel()
	require.Equal(t, fingerprint[mutualA](codec.Default), fingerprint[mutualE](codec.Default))
	require.NotEqual(t, fingerprint[mutualA](codec.Default), fingerprint[mutualC](codec.Default))
	require.NotEqual(t, fingerprint[mutualA](codec.Default), fingerprint[mutualB](codec.Default))
	require.NotEqual(t, fingerprint[selfSlice](codec.Default), fingerprint[selfMap](codec.Default))
	require.NotEqual(t, fingerprint[pointerCycle](codec.Default), fingerprint[selfSlice](codec.Default))
	require.NotEqual(t, fingerprint[tree](codec.Default), fingerprint[ring](codec.Default))
}

type (
	link[T any] struct {
		X, Y *T
		Back *manyPaths
	}
	link3[T any]  = link[link[link[T]]]
	link9[T any]  = link3[link3[link3[T]]]
	link27[T any] = link9[link9[link9[T]]]
	manyPaths     struct{ Many link27[int] }
)

// TestFingerprint_ManyPaths has few types but many ways through them, as the models of some applications do.
func TestFingerprint_ManyPaths(t *testing.T) {
	t.Parallel()
	require.NotZero(t, fingerprint[manyPaths](codec.Default))
	require.NoError(t, codec.Check(codec.Default, reflect.TypeFor[manyPaths]()))
	kept(t, manyPaths{})
}
