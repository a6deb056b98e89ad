package msgpack_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"net/url"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec"
	"github.com/tandemcache/tandem/remote/codec/msgpack"
	"github.com/tandemcache/tandem/tests/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

func TestName_IsPinned(t *testing.T) {
	t.Parallel()
	// It is stored in Redis: another one makes every entry a miss.
	require.Equal(t, "msgpack-1", msgpack.Codec.Name())
	require.True(t, codec.ValidName(msgpack.Codec.Name()))
}

func roundTrip[V any](t *testing.T, v V) V {
	t.Helper()
	require.NoError(t, codec.Check(msgpack.Codec, reflect.TypeFor[V]()))
	b, err := msgpack.Codec.Marshal(v)
	require.NoError(t, err)
	viaPointer, err := msgpack.Codec.Marshal(&v)
	require.NoError(t, err)
	require.Len(t, viaPointer, len(b)) // maps have no order
	var out V
	require.NoError(t, msgpack.Codec.Unmarshal(b, &out))
	clear(b)
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

type (
	octet byte
	text  string
	texts []string
	tree  struct {
		Name string
		Kids []*tree
		Next *tree
		ByID map[int]tree
	}
)

func TestKeeps(t *testing.T) {
	t.Parallel()
	kept(t, []int64{math.MinInt64, -129, -33, -32, -1, 0, 127, 128, 255, 256, 65536, 1 << 32, math.MaxInt64})
	kept(t, []uint64{0, 127, 128, 1 << 63, math.MaxUint64})
	kept(t, []int{math.MinInt, math.MaxInt})
	kept(t, []int8{math.MinInt8, math.MaxInt8})
	kept(t, []int16{math.MinInt16, math.MaxInt16})
	kept(t, []int32{math.MinInt32, math.MaxInt32})
	kept(t, []uint16{math.MaxUint16})
	kept(t, []uint32{math.MaxUint32})
	kept(t, []float64{0, 0.1, -1.5, math.MaxFloat64, math.Inf(-1)})
	kept(t, []float32{0.1, math.MaxFloat32, float32(math.Inf(1))})
	require.True(t, math.Signbit(roundTrip(t, math.Copysign(0, -1))))
	require.True(t, math.IsNaN(roundTrip(t, math.NaN())))
	kept(t, true)
	kept(t, 5*time.Hour+3)
	kept(t, "not \xff UTF-8")
	kept(t, text("x"))
	kept(t, []byte(nil))
	kept(t, []byte{})
	kept(t, []byte{1, 2})
	kept(t, []octet{1, 2})
	kept(t, [4]byte{1, 2, 3, 4})
	kept(t, []string(nil))
	kept(t, []string{})
	kept(t, texts{"a"})
	kept(t, []int(nil))
	kept(t, []int{})
	kept(t, [][]int{nil, {}, {1}})
	kept(t, map[string]string(nil))
	kept(t, map[string]string{})
	kept(t, map[string]string{"a": "b"})
	kept(t, map[string]bool(nil))
	kept(t, map[string]bool{"a": true})
	kept(t, map[int8]int(nil))
	kept(t, map[int8]int{})
	kept(t, map[int8][]string{-1: nil, 1: {}})
	kept(t, map[text]float64{"x": 1.5})
	kept(t, map[[2]int]bool{{1, 2}: true})
	kept(t, map[[2]byte]bool{{1, 2}: true})
	kept(t, map[netip.Addr]int{netip.MustParseAddr("::1"): 1})
	kept(t, []struct{}{{}, {}})
	one := 1
	kept(t, &one)
	kept(t, (*int)(nil))
	kept(t, tree{Name: "root", Kids: []*tree{{Name: "a"}, nil}, Next: &tree{Name: "n"}, ByID: map[int]tree{1: {Name: "x"}}})
	kept(t, netip.MustParseAddrPort("[::1]:80"))
	kept(t, netip.Addr{})
	link, err := url.Parse("https://example.org/a%2Fb?q=1#frag")
	require.NoError(t, err)
	kept(t, link)
	huge, _ := new(big.Int).SetString("-123456789012345678901234567890", 10)
	kept(t, huge)
	require.Equal(t, *huge, roundTrip(t, *huge))
	kept(t, json.RawMessage(`[1.0]`))
	kept(t, (*tree)(nil))
	kept(t, custom{"x"})
	kept(t, &onPointer{"x"})
}

func TestTimes_KeepTheInstant(t *testing.T) {
	t.Parallel()
	for _, in := range []time.Time{
		time.Date(2024, 1, 2, 3, 4, 5, 123456789, time.FixedZone("", 5*3600+1800)), time.Unix(1, 0), time.Unix(1, 1), time.Unix(-1, 1), time.Date(9999, 1, 1, 0, 0, 0, 1, time.UTC),
		time.Unix(1_700_000_000, 937_000_000), // the extension's content begins with 0xdf, the head of a map
	} {
		require.True(t, in.Equal(roundTrip(t, in)))
		require.True(t, in.Equal(*roundTrip(t, &in)))
		require.True(t, in.Equal(roundTrip(t, map[string]time.Time{"a": in})["a"]))
	}
	require.True(t, roundTrip(t, time.Time{}).IsZero())
}

// custom writes itself as msgpack.
type custom struct{ s string }

func (c custom) MarshalMsgpack() ([]byte, error) {
	return append([]byte{0xa0 + byte(len(c.s))}, c.s...), nil
}
func (c *custom) UnmarshalMsgpack(b []byte) error {
	c.s = string(b[1:])
	return nil
}

type onPointer struct{ s string }

func (p *onPointer) MarshalText() ([]byte, error) { return []byte(p.s), nil }
func (p *onPointer) UnmarshalText(b []byte) error { p.s = string(b); return nil }

type Base struct{ ID, Rev int }

type inner struct{ Visible int }

func TestStructTags(t *testing.T) {
	t.Parallel()
	type tagged struct {
		Base
		inner
		Both    int             `msgpack:"m" json:"j"`
		JSON    int             `json:"only_json"`
		Empty   []int           `json:"empty,omitempty"`
		Left    string          `msgpack:"-"`
		LeftToo string          `json:"-"`
		Map     map[string]bool `msgpack:",omitempty"`
		hidden  string
	}
	in := tagged{Base: Base{1, 2}, inner: inner{3}, Both: 4, JSON: 5, Left: "l", LeftToo: "l", hidden: "h"}
	require.Equal(t, tagged{Base: Base{1, 2}, inner: inner{3}, Both: 4, JSON: 5}, roundTrip(t, in))
	b, err := msgpack.Codec.Marshal(in)
	require.NoError(t, err)
	var names map[string]int
	require.NoError(t, msgpack.Codec.Unmarshal(b, &names))
	require.Equal(t, map[string]int{"ID": 1, "Rev": 2, "Visible": 3, "m": 4, "only_json": 5}, names)

	type positional struct {
		_msgpack struct{} `msgpack:",as_array"`
		A, B     int
	}
	kept(t, positional{A: 1, B: 2})
}

type (
	jsonOnly struct{ A int }
	halfPair struct{ A int }
	readOnly struct{ A int }
	crossed  struct{ A int }
	hidden   struct{ a int }
	ringA    struct{ B *ringB }
	ringB    struct {
		A    *ringA
		Fail chan int
	}
	pointers *pointers
)

func (jsonOnly) MarshalJSON() ([]byte, error)      { return []byte("1"), nil }
func (*jsonOnly) UnmarshalJSON([]byte) error       { return nil }
func (halfPair) MarshalText() ([]byte, error)      { return nil, nil }
func (*readOnly) UnmarshalBinary([]byte) error     { return nil }
func (crossed) MarshalText() ([]byte, error)       { return nil, nil }
func (*crossed) UnmarshalText([]byte) error        { return nil }
func (*crossed) MarshalBinary() ([]byte, error)    { return nil, nil }
func (*crossed) UnmarshalBinary(data []byte) error { return nil }

func TestCheck_Refuses(t *testing.T) {
	t.Parallel()
	type (
		twice struct {
			Base
			ID int
		}
		embedsPointer struct{ *Base }
		embedsBasic   struct{ text }
		borrowed      struct {
			time.Time
			N int
		}
		interned struct {
			S string `msgpack:",intern"`
		}
		aliased struct {
			S string `msgpack:"s,alias:t"`
		}
		quoted struct {
			S string `msgpack:"'a,b'"`
		}
		deep struct {
			A []map[string]struct{ B func() }
		}
	)
	for want, typ := range map[string]reflect.Type{
		"interface {}: the bytes do not tell":                reflect.TypeFor[any](),
		"map[string]interface {}[]: the bytes do not":        reflect.TypeFor[map[string]any](),
		"error: the bytes do not tell":                       reflect.TypeFor[error](),
		"a func cannot be encoded":                           reflect.TypeFor[func()](),
		"a chan cannot be encoded":                           reflect.TypeFor[chan int](),
		"a complex128 cannot be encoded":                     reflect.TypeFor[complex128](),
		"a uintptr cannot be encoded":                        reflect.TypeFor[uintptr](),
		"deep.A[][].B: a func cannot be encoded":             reflect.TypeFor[deep](),
		"has no exported field":                              reflect.TypeFor[hidden](),
		"may point to a nil":                                 reflect.TypeFor[**int](),
		"*[]int may point to a nil":                          reflect.TypeFor[*[]int](),
		"*map[int]int may point to a nil":                    reflect.TypeFor[*map[int]int](),
		"pointers may point to a nil":                        reflect.TypeFor[pointers](),
		"it has MarshalJSON":                                 reflect.TypeFor[jsonOnly](),
		"no method to unmarshal":                             reflect.TypeFor[halfPair](),
		"no method to marshal":                               reflect.TypeFor[readOnly](),
		"written by MarshalText and read by UnmarshalBinary": reflect.TypeFor[crossed](),
		"has its methods on the pointer":                     reflect.TypeFor[map[string]onPointer](),
		"map[string]big.Int[]: big.Int has its methods":      reflect.TypeFor[map[string]big.Int](),
		"another field has the name ID too":                  reflect.TypeFor[twice](),
		"an embedded pointer":                                reflect.TypeFor[embedsPointer](),
		"its type is not exported":                           reflect.TypeFor[embedsBasic](),
		"the other fields would be lost":                     reflect.TypeFor[borrowed](),
		"options intern and alias":                           reflect.TypeFor[interned](),
		"intern and alias":                                   reflect.TypeFor[aliased](),
		"quotes":                                             reflect.TypeFor[quoted](),
		"time.Time is not kept as the key":                   reflect.TypeFor[map[time.Time]int](),
		"msgpack_test.Base is not kept as the key":           reflect.TypeFor[map[Base]int](),
		"*int is not kept as the key":                        reflect.TypeFor[map[*int]int](),
		"map[interface {}]int[key]: the bytes":               reflect.TypeFor[map[any]int](),
		"ringA.B.Fail: a chan":                               reflect.TypeFor[ringA](),
	} {
		err := codec.Check(msgpack.Codec, typ)
		var typeErr *codec.TypeError
		require.ErrorAs(t, err, &typeErr, "%v", typ)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "codec msgpack-1: ")

		// And Marshal and Unmarshal refuse what Check does.
		v := reflect.New(typ)
		_, err = msgpack.Codec.Marshal(v.Interface())
		require.ErrorAs(t, err, &typeErr, "%v", typ)
		require.ErrorAs(t, msgpack.Codec.Unmarshal([]byte{0xc0}, v.Interface()), &typeErr, "%v", typ)
	}
	require.Error(t, codec.Check(msgpack.Codec, nil))
	_, err := msgpack.Codec.Marshal(nil)
	require.Error(t, err)
	require.Error(t, msgpack.Codec.Unmarshal([]byte{0xc0}, nil))
	require.Error(t, msgpack.Codec.Unmarshal([]byte{0xc0}, 1))
	require.Error(t, msgpack.Codec.Unmarshal([]byte{0xc0}, (*int)(nil)))
}

func TestMarshal_RefusesWhatIsTooDeep(t *testing.T) {
	t.Parallel()
	ring := &tree{}
	ring.Next = ring
	_, err := msgpack.Codec.Marshal(ring)
	require.ErrorContains(t, err, "or without end")
	type list []list
	type dict map[string]dict
	loop := dict{}
	loop["a"] = loop
	_, err = msgpack.Codec.Marshal(loop)
	require.ErrorContains(t, err, "or without end")
	deep := list{}
	for range 126 {
		deep = list{deep}
	}
	kept(t, list{deep[0]}[0])
	deep = list{list{deep}}
	_, err = msgpack.Codec.Marshal(list{deep})
	require.ErrorContains(t, err, "or without end")
}

// TestMarshal_DoesNotLookAtWhatItLeavesOut has a ring in a field that is not encoded.
func TestMarshal_DoesNotLookAtWhatItLeavesOut(t *testing.T) {
	t.Parallel()
	type child struct {
		parent *child
		Skip   *child `msgpack:"-"`
		Kids   []*child
	}
	c := &child{Kids: []*child{{}}}
	c.Kids[0].parent, c.Kids[0].Skip = c, c
	b, err := msgpack.Codec.Marshal(c)
	require.NoError(t, err)
	var out *child
	require.NoError(t, msgpack.Codec.Unmarshal(b, &out))
	require.Equal(t, &child{Kids: []*child{{}}}, out)
}

type writes struct{ b []byte }

func (w writes) MarshalMsgpack() ([]byte, error) { return w.b, nil }
func (w *writes) UnmarshalMsgpack([]byte) error  { panic("as some do") }

func TestMethodsOfOthersAreContained(t *testing.T) {
	t.Parallel()
	for _, b := range [][]byte{nil, {0xc1}, {0x92, 1}, {1, 2}, {0xdd, 0xff, 0xff, 0xff, 0xff}} {
		_, err := msgpack.Codec.Marshal(writes{b})
		require.ErrorContains(t, err, "one of its methods wrote", "%x", b)
	}
	b, err := msgpack.Codec.Marshal(writes{[]byte{1}})
	require.NoError(t, err)
	require.ErrorContains(t, msgpack.Codec.Unmarshal(b, new(writes)), "panic: as some do")
}

func fingerprint[V any]() uint64 { return codec.Fingerprint(msgpack.Codec, reflect.TypeFor[V]()) }

func TestFingerprint_IsPinned(t *testing.T) {
	t.Parallel()
	type pinned struct {
		Base

		ID2    int64             `msgpack:"id"`
		Names  []string          `json:"names,omitempty"`
		Attrs  map[string]string `msgpack:"a"`
		Parent *pinned
		Hash   [32]byte
		When   time.Time
		Addr   netip.Addr
		Inner  struct{ A, B int }
	}
	// In use: if it changes, a release loses all that is cached.
	require.Equal(t, "8a46be4868aac77e", fmt.Sprintf("%016x", fingerprint[pinned]()))
}

func TestFingerprint_ForgetsNamesOfTypes(t *testing.T) {
	t.Parallel()
	type (
		order struct {
			ID    int64
			Items []struct{ Price float64 }
			note  string
		}
		item     struct{ Price float64 }
		purchase struct {
			Items []item
			state int
			ID    int64
		}
	)
	require.Equal(t, fingerprint[order](), fingerprint[purchase]())
	require.Equal(t, fingerprint[struct{ Base }](), fingerprint[struct{ ID, Rev int }](), "their encodings are the same")
}

func TestFingerprint_TellsStructuresApart(t *testing.T) {
	t.Parallel()
	type recursive struct {
		A    int
		Next *recursive
	}
	type ab struct {
		_msgpack struct{} `msgpack:",as_array"`
		A, B     int
	}
	type ba struct {
		_msgpack struct{} `msgpack:",as_array"`
		B, A     int
	}
	seen := map[uint64]reflect.Type{}
	for _, typ := range []reflect.Type{
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
		reflect.TypeFor[struct{ A time.Time }](),
		reflect.TypeFor[struct{ A netip.Addr }](),
		reflect.TypeFor[struct{ A netip.Prefix }](),
		reflect.TypeFor[struct{ A custom }](),
		reflect.TypeFor[struct{ A, B int }](),
		reflect.TypeFor[struct{ A struct{ B int } }](),
		reflect.TypeFor[struct {
			A int `msgpack:"a"`
		}](),
		reflect.TypeFor[struct {
			A int `msgpack:"a,omitempty"`
		}](),
		reflect.TypeFor[struct {
			A int `json:"b"`
		}](),
		reflect.TypeFor[recursive](), reflect.TypeFor[*recursive](), reflect.TypeFor[[]recursive](),
		reflect.TypeFor[ab](), reflect.TypeFor[ba](),
		reflect.TypeFor[struct{}](), reflect.TypeFor[int](), reflect.TypeFor[string](), reflect.TypeFor[[]byte](),
	} {
		fp := codec.Fingerprint(msgpack.Codec, typ)
		require.NotContains(t, seen, fp, "%v and %v", typ, seen[fp])
		seen[fp] = typ
	}
}
