package codec_test

import (
	"encoding/json"
	"math"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec"
)

// roundTrip encodes v and returns what comes back.
func roundTrip[V any](t *testing.T, v V) V {
	t.Helper()
	b, err := codec.Default.Marshal(v)
	require.NoError(t, err)
	if reflect.TypeFor[V]().Kind() != reflect.Interface {
		viaPointer, err := codec.Default.Marshal(&v)
		require.NoError(t, err)
		require.Len(t, viaPointer, len(b)) // maps have no order
	}
	var out V
	require.NoError(t, codec.Default.Unmarshal(b, &out))
	return out
}

// kept fails unless v comes back the same, alone and as a field, as an element, behind a pointer and in a map.
func kept[V any](t *testing.T, v V) {
	t.Helper()
	type holder struct {
		Before int
		V      V
		After  string
	}
	h := holder{1, v, "x"}
	require.Equal(t, v, roundTrip(t, v))
	require.Equal(t, h, roundTrip(t, h))
	require.Equal(t, &h, roundTrip(t, &h))
	require.Equal(t, []V{v, v}, roundTrip(t, []V{v, v}))
	require.Equal(t, [2]V{v, v}, roundTrip(t, [2]V{v, v}))
	require.Equal(t, map[string]V{"": v, "k": v}, roundTrip(t, map[string]V{"": v, "k": v}))
}

func TestDefault_Numbers(t *testing.T) {
	t.Parallel()
	kept(t, []int64{math.MinInt64, -1 << 53, -25, -1, 0, 23, 24, 255, 256, 65536, 1 << 32, math.MaxInt64})
	kept(t, []uint64{0, 1 << 63, math.MaxUint64})
	kept(t, []int8{math.MinInt8, math.MaxInt8})
	kept(t, []uint32{math.MaxUint32})
	kept(t, []int{math.MinInt, math.MaxInt})
	kept(t, []float64{0, 0.1, -1.5, math.MaxFloat64, math.SmallestNonzeroFloat64, math.Inf(1), math.Inf(-1)})
	kept(t, []float32{0.1, math.MaxFloat32, math.SmallestNonzeroFloat32, float32(math.Inf(-1))})
	kept(t, []bool{true, false})
	kept(t, 5*time.Hour+3)

	require.True(t, math.Signbit(roundTrip(t, math.Copysign(0, -1))))
	require.True(t, math.IsNaN(roundTrip(t, math.NaN())))
	require.True(t, math.IsNaN(float64(roundTrip(t, float32(math.NaN())))))
	require.True(t, math.IsNaN(roundTrip(t, any(math.NaN())).(float64)))
}

func TestDefault_BigInt(t *testing.T) {
	t.Parallel()
	huge, _ := new(big.Int).SetString("-123456789012345678901234567890", 10)
	for _, n := range []*big.Int{big.NewInt(5), big.NewInt(-5), huge, new(big.Int).Neg(huge), new(big.Int).SetUint64(math.MaxUint64)} {
		kept(t, n)
		kept(t, *n)
		kept(t, any(n))
	}
	require.Zero(t, roundTrip(t, new(big.Int)).Sign())
}

func TestDefault_StringsAndBytes(t *testing.T) {
	t.Parallel()
	kept(t, []string{"", "text", "é", "not \xff UTF-8", "\x00"})
	kept(t, []byte("bytes\xff\x00"))
	kept(t, [3]byte{1, 2, 3})
	kept(t, [][]byte{{1}, {}, nil})
	kept(t, json.RawMessage("{\"a\": 1.0,\n\"a\":2}"))
	kept(t, json.RawMessage(nil))
	kept(t, json.Number("12.50"))
}

func TestDefault_NilAndEmptyDiffer(t *testing.T) {
	t.Parallel()
	kept(t, []int(nil))
	kept(t, []int{})
	kept(t, []byte(nil))
	kept(t, []byte{})
	kept(t, map[string]int(nil))
	kept(t, map[string]int{})
	kept(t, (*int)(nil))
	kept(t, new(0))
	kept(t, new(new("")))
	kept(t, []*bool{new(true), nil, new(false)})
	kept(t, any(nil))
	kept(t, (*user)(nil))
}

func TestDefault_Maps(t *testing.T) {
	t.Parallel()
	kept(t, map[int]string{math.MinInt: "a", 2: "b"})
	kept(t, map[uint8]bool{255: true})
	kept(t, map[bool]int{true: 1})
	kept(t, map[float64]int{1.5: 1})
	kept(t, map[string]map[int][]string{"a": {1: {"b"}, 2: nil}, "c": nil})
	kept(t, map[[2]int]string{{1, 2}: "x"})
	kept(t, map[struct{ A, B int }]string{{1, 2}: "x", {2, 1}: "y"})
	kept(t, map[string]struct{}{"x": {}})
	kept(t, map[netip.Addr]int{netip.MustParseAddr("10.0.0.1"): 1, netip.MustParseAddr("::1%eth0"): 2})
}

func TestDefault_Any(t *testing.T) {
	t.Parallel()
	noon := time.Date(2024, 1, 2, 12, 0, 0, 1, time.UTC)
	kept(t, map[string]any{
		"nil": nil, "bool": true, "string": "s", "bytes": []byte{1}, "empty": []byte{}, "float": 1.5, "whole": 2.0,
		"int": int64(math.MinInt64), "positive": int64(7), "big": big.NewInt(7), "time": noon,
		"list": []any{int64(1), "x", nil, []any{}}, "map": map[string]any{"nested": map[string]any{"deep": int64(1)}, "none": map[string]any{}},
	})
	kept(t, struct{ V any }{map[string]any{"a": []any{map[string]any{"b": int64(1)}}}})

	// Other sizes of numbers stay whole or fractional.
	require.Equal(t, map[string]any{"a": int64(-1), "b": int64(200), "c": 0.5, "d": int64(9), "e": int64(8)},
		roundTrip(t, map[string]any{"a": int8(-1), "b": uint8(200), "c": float32(0.5), "d": uint64(9), "e": uint(8)}))
	require.Equal(t, any(int64(1)), roundTrip(t, any(1)))
}

func TestDefault_Time(t *testing.T) {
	t.Parallel()
	for _, loc := range []*time.Location{time.UTC, time.FixedZone("", 5*3600+1800), time.FixedZone("", -23*3600)} {
		for _, in := range []time.Time{
			time.Date(2024, 1, 2, 3, 4, 5, 123456789, loc),
			time.Date(2024, 1, 2, 3, 4, 5, 0, loc),
			time.Date(1, 6, 1, 0, 0, 0, 0, loc),
			time.Date(9999, 6, 1, 0, 0, 0, 0, loc),
		} {
			for _, out := range []time.Time{
				roundTrip(t, in), *roundTrip(t, &in), roundTrip(t, any(in)).(time.Time), roundTrip(t, []time.Time{in})[0],
			} {
				require.True(t, in.Equal(out), "%v became %v", in, out)
				require.Equal(t, in.Format(time.RFC3339Nano), out.Format(time.RFC3339Nano))
			}
		}
	}
	kept(t, time.Time{})
	require.True(t, roundTrip(t, time.Time{}.In(time.FixedZone("", 3600))).IsZero())
	now := time.Now() // with a monotonic clock reading, which is dropped
	require.True(t, now.Equal(roundTrip(t, now)))
}

func TestDefault_StructTags(t *testing.T) {
	t.Parallel()
	type inner struct{ X int }
	type tagged struct {
		Renamed int             `json:"other_name"`
		Cbor    int             `cbor:"c" json:"-"`
		Empty   []int           `json:"empty,omitempty"`
		Zero    time.Time       `json:"zero,omitzero"`
		ZeroIn  inner           `json:"zero_in,omitzero"`
		Dash    int             `json:"-,"`
		String  int64           `json:"string,string"`
		Plain   map[string]bool `json:",omitempty"`
		Left    string          `json:"-"`
		hidden  string
	}
	in := tagged{Renamed: 1, Cbor: 2, Dash: 3, String: 4, Left: "left", hidden: "hidden"}
	require.Equal(t, tagged{Renamed: 1, Cbor: 2, Dash: 3, String: 4}, roundTrip(t, in))
	require.Equal(t, map[string]any{"other_name": int64(1), "c": int64(2), "-": int64(3), "string": int64(4)}, asMap(t, in))

	full := tagged{1, 2, []int{3}, time.Unix(1, 0).UTC(), inner{1}, 4, 5, map[string]bool{"x": true}, "", ""}
	require.Equal(t, full, roundTrip(t, full))
}

// asMap returns the names and values in the encoding of v.
func asMap(t *testing.T, v any) (m map[string]any) {
	t.Helper()
	b, err := codec.Default.Marshal(v)
	require.NoError(t, err)
	require.NoError(t, codec.Default.Unmarshal(b, &m))
	return m
}

type (
	Base  struct{ ID, Rev int }
	Extra struct{ Note string }
	lower struct{ Visible int }
	Level int
)

func TestDefault_Embedding(t *testing.T) {
	t.Parallel()
	type all struct {
		Base
		*Extra
		lower
		Level
		Named Base
	}
	in := all{Base{1, 2}, &Extra{"n"}, lower{3}, 4, Base{5, 6}}
	require.Equal(t, in, roundTrip(t, in))
	in.Extra = nil
	require.Equal(t, in, roundTrip(t, in))
	require.Equal(t, map[string]any{"ID": int64(1), "Rev": int64(2), "Visible": int64(3), "Level": int64(4),
		"Named": map[string]any{"ID": int64(5), "Rev": int64(6)}}, asMap(t, in))

	type withTag struct {
		Base `json:"base"`
	}
	kept(t, withTag{Base{1, 2}})
	type stamp struct{ time.Time } // nothing else: the borrowed methods keep all of it
	require.True(t, time.Unix(5, 6).Equal(roundTrip(t, stamp{time.Unix(5, 6)}).Time))
	type locked struct {
		sync.Mutex
		opaque // not kept, as all that is not exported
		N      int
	}
	require.Equal(t, 3, roundTrip(t, &locked{N: 3}).N)
}

func TestDefault_Options(t *testing.T) {
	t.Parallel()
	type positional struct {
		_    struct{} `cbor:",toarray"`
		A, B int
	}
	kept(t, positional{A: 1, B: 2})
	type numbered struct {
		A int `cbor:"1,keyasint"`
		B int `cbor:"-2,keyasint"`
	}
	kept(t, numbered{A: 1, B: 2})
}

type tree struct {
	Name string
	Kids []*tree
	Next *tree
	ByID map[int]tree
}

func TestDefault_RecursiveTypes(t *testing.T) {
	t.Parallel()
	kept(t, tree{Name: "root", Kids: []*tree{{Name: "a"}, nil}, Next: &tree{Name: "n"}, ByID: map[int]tree{1: {Name: "x"}}})
	type list []list
	kept(t, list{{}, {{}, nil}})
	type dict map[string]dict
	kept(t, dict{"a": {"b": nil}})
}

func TestDefault_TypesOfOthers(t *testing.T) {
	t.Parallel()
	link, err := url.Parse("https://user:secret@example.org/a%2Fb?q=1#frag")
	require.NoError(t, err)
	kept(t, *link)
	kept(t, link)
	kept(t, netip.MustParseAddrPort("[::1]:80"))
	kept(t, netip.MustParsePrefix("10.0.0.0/8"))
	kept(t, netip.Addr{})
	kept(t, net.IPNet{IP: net.IPv4(10, 0, 0, 0), Mask: net.CIDRMask(8, 32)})
	kept(t, big.NewRat(1, 3))
	require.Zero(t, big.NewFloat(1.5).Cmp(roundTrip(t, big.NewFloat(1.5))))

	type mixed struct {
		Addr netip.Addr
		Link *url.URL
		Rat  *big.Rat
		Raw  json.RawMessage
		When time.Time
		Big  *big.Int
	}
	kept(t, mixed{netip.MustParseAddr("10.0.0.1"), link, big.NewRat(1, 3), json.RawMessage(`[1.0]`), time.Unix(1, 2).UTC(), big.NewInt(1)})
}

func TestDefault_IsConcurrent(t *testing.T) {
	t.Parallel()
	// A type of its own, so that its plan is made by all at once.
	type fresh struct {
		U    user
		Any  map[string]any
		Kids []fresh
	}
	in := fresh{newUser(), map[string]any{"a": int64(1)}, []fresh{{U: newUser()}}}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				b, err := codec.Default.Marshal(in)
				if err != nil {
					t.Error(err)
					return
				}
				var out fresh
				if err := codec.Default.Unmarshal(b, &out); err != nil || !reflect.DeepEqual(in, out) {
					t.Error(err, out)
					return
				}
			}
		})
	}
	wg.Wait()
}
