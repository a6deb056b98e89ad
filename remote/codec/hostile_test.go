package codec_test

import (
	"bytes"
	"encoding/hex"
	"math/big"
	"net/netip"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec"
)

// everything has a field of each kind that hostile bytes may aim at.
type everything struct {
	Bool    bool
	Int     int8
	Uint    uint64
	Float   float32
	Str     string `json:"str,omitempty"`
	Bytes   []byte
	Octets  [4]byte
	Ints    []int64
	Four    [4]int
	Map     map[string]int
	ByInt   map[int][]string
	Any     any
	AnyMap  map[string]any
	Ptr     **int
	Kids    []*everything
	Inner   struct{ A, B string }
	Time    time.Time
	TimePtr *time.Time
	Big     *big.Int
	Addr    netip.Addr
	ByAddr  map[netip.Addr]bool
	Empty   []struct{}
}

// jsonToo is encoded in another mode.
type jsonToo struct {
	J    jsonOnly
	Js   []*jsonOnly
	Bin  binaryOnly
	Big  big.Int
	Any  any
	Kids []jsonToo
}

func newEverything() everything {
	when := time.Unix(1, 2).UTC()
	one := 1
	p := &one
	addr := netip.MustParseAddr("10.0.0.1")
	return everything{
		true, -1, 1 << 63, 0.5, "s", []byte{1}, [4]byte{1, 2, 3, 4}, []int64{-1}, [4]int{1}, map[string]int{"a": 1},
		map[int][]string{-1: {"x"}}, []any{1.5, nil}, map[string]any{"a": map[string]any{"b": int64(1)}}, &p, []*everything{nil, {}},
		struct{ A, B string }{"a", "b"}, when, &when, big.NewInt(-300), addr, map[netip.Addr]bool{addr: true}, []struct{}{{}},
	}
}

func newJSONToo() jsonToo {
	return jsonToo{jsonOnly{secret{"x"}}, []*jsonOnly{nil, {}}, binaryOnly{secret{"y"}}, *big.NewInt(7), true, []jsonToo{{}}}
}

// targets returns pointers to new zero values to decode into.
func targets() []any {
	return []any{
		new(any), new(everything), new(jsonToo), new(user), new(tree), new([]any), new(map[string]any), new([]int64), new([]byte),
		new(string), new(map[int]string), new([3]int), new(time.Time), new(*int), new([]struct{}), new([][]any), new(bool), new(big.Int),
	}
}

func TestDefault_RefusesBadBytes(t *testing.T) {
	t.Parallel()
	for name, bytes := range map[string]string{
		"nothing":              "",
		"trailing":             "a0 00",
		"two values":           "a0 a0",
		"a map cut short":      "a1 62 4964",
		"indefinite array":     "9f ff",
		"indefinite map":       "bf ff",
		"indefinite text":      "7f ff",
		"undefined":            "f7",
		"a simple value":       "e0",
		"reserved":             "1c",
		"a lone break":         "ff",
		"key twice":            "a2 61 61 01 61 61 02",
		"unknown field twice":  "a2 63 787878 01 63 787878 02",
		"array of wrong":       "81 1c",
		"bad big number":       "c2 01",
		"bad time":             "c0 61 61",
		"time from a map":      "c1 a0",
		"length of 2^64-1":     "5b ffffffffffffffff",
		"text length of 2^63":  "7b 8000000000000000",
		"array length of 2^62": "9b 4000000000000000",
		"map length of 2^31":   "ba 80000000 00",
	} {
		data, err := hex.DecodeString(strings.ReplaceAll(bytes, " ", ""))
		require.NoError(t, err)
		for _, v := range []any{new(any), new(map[string]any), new(user), new(everything)} {
			require.Error(t, codec.Default.Unmarshal(data, v), "%s into %T", name, v)
		}
	}
}

func TestDefault_RefusesWrongTypes(t *testing.T) {
	t.Parallel()
	b, err := codec.Default.Marshal(map[string]any{"id": "text"})
	require.NoError(t, err)
	require.ErrorContains(t, codec.Default.Unmarshal(b, new(user)), "codec cbor-1: decode into *codec_test.user: ")
	b, err = codec.Default.Marshal(map[string]int{"Int": 128})
	require.NoError(t, err)
	require.ErrorContains(t, codec.Default.Unmarshal(b, new(everything)), "overflows int8")

	// Names are compared exactly: a field of another schema must not be taken for this one.
	b, err = codec.Default.Marshal(map[string]int{"ID": 1})
	require.NoError(t, err)
	var u user
	require.NoError(t, codec.Default.Unmarshal(b, &u))
	require.Zero(t, u)
}

func TestDefault_RefusesEveryTruncation(t *testing.T) {
	t.Parallel()
	for _, v := range []any{newEverything(), newJSONToo(), newUser()} {
		b, err := codec.Default.Marshal(v)
		require.NoError(t, err)
		for i := range b {
			require.Error(t, codec.Default.Unmarshal(b[:i], reflect.New(reflect.TypeOf(v)).Interface()))
		}
		require.Error(t, codec.Default.Unmarshal(append(b, 0), reflect.New(reflect.TypeOf(v)).Interface()))
	}
}

func TestDefault_SurvivesEveryChangedByte(t *testing.T) {
	t.Parallel()
	for _, v := range []any{newEverything(), newJSONToo()} {
		b, err := codec.Default.Marshal(v)
		require.NoError(t, err)
		for i := range b {
			for _, x := range []byte{0x00, 0x01, 0x20, 0x40, 0x5f, 0x80, 0x9b, 0xbb, 0xc0, 0xdb, 0xf6, 0xfb, 0xff, b[i] ^ 0x80, b[i] + 1} {
				old := b[i]
				b[i] = x
				_ = codec.Default.Unmarshal(b, reflect.New(reflect.TypeOf(v)).Interface())
				b[i] = old
			}
		}
	}
}

func TestDefault_KeepsNoReference(t *testing.T) {
	t.Parallel()
	for _, v := range []any{newEverything(), newJSONToo(), newUser()} {
		b, err := codec.Default.Marshal(v)
		require.NoError(t, err)
		before := bytes.Clone(b)
		out := reflect.New(reflect.TypeOf(v))
		require.NoError(t, codec.Default.Unmarshal(b, out.Interface()))
		require.Equal(t, before, b)
		clear(b)
		require.Equal(t, v, out.Elem().Interface())
	}
}

// TestDefault_RefusesForeignJSON has what the library accepts as a value, where embedded JSON should be.
func TestDefault_RefusesForeignJSON(t *testing.T) {
	t.Parallel()
	for _, item := range []string{
		"6171",                           // a text
		"d90106426161",                   // embedded, but with a head that we do not write
		"d901065a000000027878",           // not JSON
		"d901065a000000036a736f",         // not JSON either
		"a0", "80", "f6", "00", "c24101", // of other types
	} {
		data, err := hex.DecodeString("a1614a" + item)
		require.NoError(t, err)
		err = codec.Default.Unmarshal(data, new(jsonToo))
		require.Error(t, err, item)
	}
	for name, item := range map[string]string{"small": "c24107", "negative": "c34106"} {
		data, err := hex.DecodeString("a163426967" + item)
		require.NoError(t, err)
		var v jsonToo
		require.NoError(t, codec.Default.Unmarshal(data, &v), name)
		require.EqualValues(t, 7, new(big.Int).Abs(&v.Big).Int64())
	}
}

// TestDefault_AllocatesInProportion is not parallel: what it measures is all that the process allocates, and parallel
// tests are paused while it runs.
func TestDefault_AllocatesInProportion(t *testing.T) { //nolint:paralleltest // see above
	const size = 1 << 16
	repeat := func(head string, item byte) []byte {
		h, err := hex.DecodeString(head)
		require.NoError(t, err)
		return append(h, bytes.Repeat([]byte{item}, size)...)
	}
	bombs := map[string][]byte{
		"claims 2^31-1 elements": repeat("9a7fffffff", 0x00),
		"claims 2^31-1 pairs":    repeat("ba7fffffff", 0x00),
		"claims 2^31 bytes":      repeat("5a80000000", 0x00),
		"claims at each level":   bytes.Repeat([]byte{0x9a, 0x7f, 0xff, 0xff, 0xff}, size/5),
		"nested arrays":          repeat("", 0x81),
		"nested maps":            repeat("", 0xa1),
		"nested tags":            repeat("", 0xc6),
		"really full of nothing": repeat("9a00010000", 0x80),
		"really full of maps":    repeat("9a00010000", 0xa0),
		"really full of null":    repeat("9a00010000", 0xf6),
		"pairs of 0":             repeat("ba00008000", 0x00),
		"pairs of empty strings": repeat("ba00008000", 0x60),
	}
	for name, data := range bombs {
		for _, v := range targets() {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_ = codec.Default.Unmarshal(data, v)
			runtime.ReadMemStats(&after)
			// An element takes a byte at least, and the room for it what its type takes, which is up to the user: the
			// biggest here are structs. 24 bytes are a slice in an any, and as much goes to the any itself.
			perByte := max(64, elemSize(reflect.TypeOf(v).Elem()))
			require.Less(t, after.TotalAlloc-before.TotalAlloc, perByte*2*size, "%s into %T", name, v)
		}
	}
}

func elemSize(t reflect.Type) uint64 {
	if t.Kind() == reflect.Slice || t.Kind() == reflect.Array {
		return uint64(t.Elem().Size())
	}
	return 0
}
