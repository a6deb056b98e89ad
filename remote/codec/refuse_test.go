package codec_test

import (
	"fmt"
	"io"
	"math"
	"math/big"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec"
)

type (
	writesText   struct{ s string }
	readsCBOR    struct{ A int }
	crossed      struct{ s string }
	opaque       struct{ n int }
	Opaque       struct{ n int }
	pointerCycle *pointerCycle
	withTime     struct {
		time.Time
		Note string
	}
	ownMethods struct {
		textOnly
		Note string
	}
	twoSelves struct { // the methods of the two cancel each other out
		time.Time
		all
	}
	marshaler      interface{ MarshalText() ([]byte, error) }
	lendsInterface struct {
		marshaler
		Note string
	}
	selfEmbedding struct{ *selfEmbedding }
)

func (writesText) MarshalText() ([]byte, error)    { return nil, nil }
func (*readsCBOR) UnmarshalCBOR([]byte) error      { return nil }
func (crossed) MarshalText() ([]byte, error)       { return nil, nil }
func (*crossed) UnmarshalBinary([]byte) error      { return nil }
func (ownMethods) MarshalText() ([]byte, error)    { return nil, nil }
func (*ownMethods) UnmarshalText(t []byte) error   { return nil }
func (*lendsInterface) UnmarshalText([]byte) error { return nil }

// TestDefault_RefusesTypes lists types that the library would encode, or decode, with a loss.
func TestDefault_RefusesTypes(t *testing.T) {
	t.Parallel()
	type A struct{ ID int }
	for _, c := range []struct {
		typ  reflect.Type
		want string
	}{
		{reflect.TypeFor[func()](), "a func cannot be encoded"},
		{reflect.TypeFor[struct{ C map[string][]chan int }](), ".C[][]: a chan cannot be encoded"},
		{reflect.TypeFor[complex128](), "a complex128 cannot be encoded"},
		{reflect.TypeFor[uintptr](), "a uintptr cannot be encoded"},
		{reflect.TypeFor[struct{ R io.Reader }](), ".R: io.Reader is an interface with methods"},
		{reflect.TypeFor[error](), "error is an interface with methods"},
		{reflect.TypeFor[writesText](), "methods to marshal itself (Text) but none to unmarshal"},
		{reflect.TypeFor[[]crossed](), "[]: codec_test.crossed has methods to marshal itself (Text) but none to unmarshal"},
		{reflect.TypeFor[readsCBOR](), "can be read from CBOR but is not written so"},
		{reflect.TypeFor[opaque](), "no exported fields: nothing of it would be kept"},
		{reflect.TypeFor[struct{ N atomic.Int64 }](), ".N: atomic.Int64 has no exported fields"},
		{reflect.TypeFor[struct{ L *time.Location }](), ".L: time.Location has no exported fields"},
		{reflect.TypeFor[pointerCycle](), "more than 8 pointers in a row"},
		{reflect.TypeFor[withTime](), "embeds time.Time, and may have its MarshalBinary from there"},
		{reflect.TypeFor[ownMethods](), "embeds codec_test.textOnly, and may have its MarshalText from there"},
		{reflect.TypeFor[lendsInterface](), "embeds codec_test.marshaler, and may have its MarshalText from there"},
		{reflect.TypeFor[twoSelves](), ".Time: time.Time marshals itself, but not when it is embedded"},
		{reflect.TypeFor[selfEmbedding](), "embeds itself"},
		{reflect.TypeFor[struct {
			Opaque
			A int
		}](), ".Opaque: codec_test.Opaque has no exported fields"},
		{reflect.TypeFor[struct{ *lower }](), ".lower: an embedded pointer to an unexported struct cannot be set"},
		{reflect.StructOf([]reflect.StructField{
			{Name: "A", Type: reflect.TypeFor[int](), Tag: `json:"x"`},
			{Name: "B", Type: reflect.TypeFor[int](), Tag: `json:"x"`},
		}), `.A and .B have the same name, "x": one or both would be lost`},
		{reflect.TypeFor[struct {
			Base
			A
		}](), `.Base.ID and .A.ID have the same name, "ID"`},
		{reflect.TypeFor[struct {
			Base
			ID string
		}](), `.Base.ID and .ID have the same name, "ID"`},
		{reflect.TypeFor[map[time.Time]int](), "map key time.Time: equal times may differ by =="},
		{reflect.TypeFor[map[*int]int](), "map key *int: a pointer is another one"},
		{reflect.TypeFor[map[any]int](), "map key interface {}: what an interface holds may be of another type"},
		{reflect.TypeFor[map[[1]any]int](), "what an interface holds may be of another type"},
		{reflect.TypeFor[map[struct{ A *int }]int](), "a pointer is another one"},
		{reflect.TypeFor[map[struct{ A, b int }]int](), "it has fields that are not kept, so that keys would merge"},
	} {
		err := codec.Check(codec.Default, c.typ)
		require.ErrorContains(t, err, c.want, c.typ)
		require.ErrorContains(t, err, fmt.Sprintf("codec cbor-1: %v", c.typ))

		v := reflect.New(c.typ)
		_, marshalErr := codec.Default.Marshal(v.Interface())
		require.Equal(t, err, marshalErr)
		require.Equal(t, err, codec.Default.Unmarshal([]byte{0xa0}, v.Interface()))
	}
}

type ring struct {
	Next *ring
	Any  any
}

// TestDefault_RefusesValues lists values of types that are fine otherwise.
func TestDefault_RefusesValues(t *testing.T) {
	t.Parallel()
	lmt := time.FixedZone("LMT", 19*60+32)
	loop := &ring{}
	loop.Next = loop
	anyLoop := map[string]any{}
	anyLoop["x"] = []any{anyLoop}
	deep := &ring{}
	for range 128 {
		deep = &ring{Next: deep}
	}
	var deepAny any
	for range 129 {
		deepAny = []any{deepAny}
	}
	for _, c := range []struct {
		v    any
		want string
	}{
		{time.Date(1900, 1, 1, 0, 0, 0, 0, lmt), "a time that is 1172 s off UTC cannot be kept"},
		{[]time.Time{time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, "[]: a time in the year 10000"},
		{struct{ T time.Time }{time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)}, ".T: a time in the year -1"},
		{time.Unix(0, 0).In(time.FixedZone("", 24*3600)), "a time that is 86400 s off UTC"},
		{map[string]any{"t": time.Time{}}, "[]: a zero time in an any would come back nil"},
		{map[string]any{"t": time.Unix(0, 0).In(lmt)}, "[]: a time that is 1172 s off"},
		{struct{ T *time.Time }{&time.Time{}}, ".T: a pointer to a nil or zero time.Time would come back as a nil pointer"},
		{struct{ P **int }{new(*int)}, ".P: a pointer to a nil or zero *int"},
		{struct{ P *[]int }{new([]int)}, ".P: a pointer to a nil or zero []int"},
		{struct{ P *any }{new(any)}, ".P: a pointer to a nil or zero interface {}"},
		{[]any{uint64(math.MaxUint64)}, "[]: an any keeps integers as int64, which cannot hold 18446744073709551615"},
		{[]any{user{}}, "[]: an any does not keep a codec_test.user: use a field of that type"},
		{[]any{&user{}}, "an any does not keep a *codec_test.user"},
		{[]any{[]string{"a"}}, "an any does not keep a []string"},
		{[]any{map[string]string{}}, "an any does not keep a map[string]string"},
		{[]any{time.Second}, "an any does not keep a time.Duration"},
		{[]any{*big.NewInt(1)}, "an any does not keep a big.Int"},
		{[]any{binaryText{}}, "an any does not keep a codec_test.binaryText"},
		{map[string]any{"a": map[string]any{"b": []any(nil)}}, "[][]: a nil []interface {} in an any would come back as a bare nil"},
		{[]any{map[string]any(nil)}, "a nil map[string]interface {} in an any"},
		{[]any{[]byte(nil)}, "a nil []uint8 in an any"},
		{[]any{(*big.Int)(nil)}, "a nil *big.Int in an any"},
		{loop, "nested more than 128 levels deep, or without end"},
		{deep, "nested more than 128 levels deep, or without end"},
		{anyLoop, "nested more than 128 levels deep, or without end"},
		{&deepAny, "nested more than 128 levels deep, or without end"},
		{map[string]map[[1]string]any{"a": {{""}: struct{}{}}}, "[][]: an any does not keep a struct {}"},
	} {
		_, err := codec.Default.Marshal(c.v)
		require.ErrorContains(t, err, c.want)
		var typeErr *codec.TypeError
		require.ErrorAs(t, err, &typeErr)
	}
}

// TestDefault_WritesNothingItCannotRead goes to the edge of what is allowed.
func TestDefault_WritesNothingItCannotRead(t *testing.T) {
	t.Parallel()
	deep := &ring{}
	for range 127 {
		deep = &ring{Next: deep}
	}
	require.Equal(t, deep, roundTrip(t, deep))
	var deepAny any
	for range 128 {
		deepAny = []any{deepAny}
	}
	require.Equal(t, deepAny, roundTrip(t, deepAny))

	long := make([]int8, 200_000) // more than the library's default limit
	require.Equal(t, long, roundTrip(t, long))
	wide := map[int]bool{}
	for i := range 200_000 {
		wide[i] = true
	}
	require.Equal(t, wide, roundTrip(t, wide))
}

func TestDefault_MethodErrors(t *testing.T) {
	t.Parallel()
	_, err := codec.Default.Marshal(failing{})
	require.EqualError(t, err, "codec cbor-1: encode codec_test.failing: no")
	b, err := codec.Default.Marshal(panicker2{})
	require.NoError(t, err)
	require.ErrorContains(t, codec.Default.Unmarshal(b, &panicker2{}), "codec cbor-1: decode into *codec_test.panicker2: panic: ")
	for _, v := range []any{nil, user{}, (*user)(nil)} {
		require.ErrorContains(t, codec.Default.Unmarshal([]byte{0xa0}, v), "not a non-nil pointer")
	}
}

type failing struct{}

func (failing) MarshalBinary() ([]byte, error)     { return nil, fmt.Errorf("no") }
func (*failing) UnmarshalBinary(data []byte) error { return nil }

type panicker2 struct{}

func (panicker2) MarshalBinary() ([]byte, error) { return []byte{1}, nil }
func (*panicker2) UnmarshalBinary(data []byte) error {
	_ = data[len(data)+1:]
	return nil
}
