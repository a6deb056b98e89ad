package msgpack_test

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec/msgpack"
)

// everything has a field of each kind that hostile bytes may aim at.
type everything struct {
	Bool   bool
	Int    int8
	Uint   uint64
	Float  float32
	Str    string `json:"str,omitempty"`
	Bytes  []byte
	Octets [4]byte
	Ints   []int64
	Four   [4]int
	Strs   []string
	Map    map[string]int
	Texts  map[string]string
	ByInt  map[int][]string
	Ptr    *int
	Kids   []*everything
	Inner  struct{ A, B string }
	Time   time.Time
	Times  map[string]time.Time
	Addr   netip.Addr
	Custom custom
	Empty  []struct{}
}

func newEverything() everything {
	one := 1
	when := time.Unix(1_700_000_000, 937_000_000)
	return everything{
		true, -1, 1 << 63, 0.5, "s", []byte{1}, [4]byte{1, 2, 3, 4}, []int64{-1}, [4]int{1}, []string{"a"}, map[string]int{"a": 1},
		map[string]string{"a": "b"}, map[int][]string{-1: {"x"}}, &one, []*everything{nil, {}}, struct{ A, B string }{"a", "b"},
		when, map[string]time.Time{"a": when}, netip.MustParseAddr("10.0.0.1"), custom{"x"}, []struct{}{{}},
	}
}

// targets returns pointers to new zero values to decode into.
func targets() []any {
	type nested map[string]nested
	type maps []map[string]map[string]string
	return []any{
		new(everything), new(tree), new([]int64), new([]byte), new(string), new([]string), new(map[int]string), new(map[string]string),
		new([3]int), new(time.Time), new(*int), new([]struct{}), new([][][]int), new(bool), new(nested), new(maps), new([]time.Time),
		new(map[string]time.Time), new([]netip.Addr), new([]custom),
	}
}

func TestUnmarshal_RefusesBadBytes(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"nothing":                  "",
		"trailing":                 "8000",
		"cut short":                "81a24944",
		"reserved":                 "c1",
		"unknown field":            "81a4787878 7801",
		"array of 2^32-1":          "ddffffffff",
		"map of 2^32-1":            "dfffffffff",
		"string of 2^32-1":         "dbffffffff",
		"bytes of 2^32-1":          "c6ffffffff",
		"extension of 2^32-1":      "c9ffffffffff",
		"length cut short":         "dd00",
		"extension without a type": "d4",
		"another extension":        "81a454696d65d60500000000",
		"a time of three bytes":    "81a454696d65c703ff000000",
		"a map inside a time":      "81a34d6170d6ff82a0a0a0",
		"a nil time":               "81a454696d65c0",
		"nested":                   strings.Repeat("91", 200) + "c0",
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(data, " ", ""))
		require.NoError(t, err)
		require.Error(t, msgpack.Codec.Unmarshal(b, new(everything)), name)
	}
}

func TestUnmarshal_RefusesDeepBytes(t *testing.T) {
	t.Parallel()
	type list []list
	require.NoError(t, msgpack.Codec.Unmarshal(append(bytes.Repeat([]byte{0x91}, 128), 0xc0), new(list)))
	require.ErrorContains(t, msgpack.Codec.Unmarshal(append(bytes.Repeat([]byte{0x91}, 129), 0xc0), new(list)), "more than 128 levels")
}

func TestUnmarshal_RefusesEveryTruncation(t *testing.T) {
	t.Parallel()
	b, err := msgpack.Codec.Marshal(newEverything())
	require.NoError(t, err)
	var out everything
	require.NoError(t, msgpack.Codec.Unmarshal(b, &out))
	require.Equal(t, newEverything(), out)
	for i := range b {
		require.Error(t, msgpack.Codec.Unmarshal(b[:i], new(everything)), "cut at %d", i)
	}
	require.Error(t, msgpack.Codec.Unmarshal(append(b, 0), new(everything)))
}

func TestUnmarshal_SurvivesEveryChangedByte(t *testing.T) {
	t.Parallel()
	b, err := msgpack.Codec.Marshal(newEverything())
	require.NoError(t, err)
	for i := range b {
		for x := range 256 {
			old := b[i]
			b[i] = byte(x)
			_ = msgpack.Codec.Unmarshal(b, new(everything))
			b[i] = old
		}
	}
}

func TestUnmarshal_KeepsNoReference(t *testing.T) {
	t.Parallel()
	b, err := msgpack.Codec.Marshal(newEverything())
	require.NoError(t, err)
	before := bytes.Clone(b)
	var out everything
	require.NoError(t, msgpack.Codec.Unmarshal(b, &out))
	require.Equal(t, before, b)
	clear(b)
	require.Equal(t, newEverything(), out)
}

// TestUnmarshal_AllocatesInProportion is not parallel: what it measures is all that the process allocates.
func TestUnmarshal_AllocatesInProportion(t *testing.T) { //nolint:paralleltest // see above
	const size = 1 << 16
	repeat := func(head, item string) []byte {
		h, err := hex.DecodeString(head)
		require.NoError(t, err)
		i, err := hex.DecodeString(item)
		require.NoError(t, err)
		return append(h, bytes.Repeat(i, size/len(i))...)
	}
	bombs := map[string][]byte{
		"claims 2^32-1 elements": repeat("ddffffffff", "00"),
		"claims 2^32-1 pairs":    repeat("dfffffffff", "00"),
		"claims 2^31 bytes":      repeat("c680000000", "00"),
		"claims at each level":   repeat("", "ddffffffff"),
		"nested arrays":          repeat("", "91"),
		"nested maps":            repeat("", "81a0"),
		"maps in a time":         repeat("", "d6ffdfffffff"),
		"list of maps in a time": repeat("dd00002aaa", "d6ffdfffffff"),
		"list of maps in times":  repeat("dd00001999", "d7ffdfffffffffffffff"),
		"really full of nothing": repeat("dd00010000", "90"),
		"really full of maps":    repeat("dd00010000", "80"),
		"really full of nil":     repeat("dd00010000", "c0"),
		"pairs of nil":           repeat("df00008000", "c0"),
		"pairs of empty strings": repeat("df00008000", "a0"),
		"pairs of numbers":       repeat("df00005555", "cd0001"),
	}
	for name, data := range bombs {
		for _, v := range targets() {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_ = msgpack.Codec.Unmarshal(data, v)
			runtime.ReadMemStats(&after)
			// An element takes a byte at least, and the room for it what its type takes. The library makes a slice twice.
			perByte := max(64, elemSize(reflect.TypeOf(v).Elem()))
			require.Less(t, after.TotalAlloc-before.TotalAlloc, 4*perByte*size, "%s into %T", name, v)
		}
	}
}

func elemSize(t reflect.Type) uint64 {
	if t.Kind() == reflect.Slice || t.Kind() == reflect.Array {
		return uint64(t.Elem().Size())
	}
	return 0
}

// FuzzUnmarshal decodes arbitrary bytes into many types. Nothing may panic; what was decoded comes back the same, or is
// refused.
func FuzzUnmarshal(f *testing.F) {
	b, err := msgpack.Codec.Marshal(newEverything())
	require.NoError(f, err)
	f.Add(b)
	for _, seed := range []string{"", "c0", "81a34d6170d6ff82a0a0a0", "d6ffdfffffff", "ddffffffff", "93010203", "82a0a0a1610a"} {
		b, err := hex.DecodeString(seed)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, v := range targets() {
			if msgpack.Codec.Unmarshal(data, v) != nil {
				continue
			}
			b, err := msgpack.Codec.Marshal(v)
			if err != nil {
				continue
			}
			again := reflect.New(reflect.TypeOf(v).Elem()).Interface()
			require.NoError(t, msgpack.Codec.Unmarshal(b, again))
			b2, err := msgpack.Codec.Marshal(again)
			require.NoError(t, err)
			require.Len(t, b2, len(b)) // maps have no order, and NaN is not NaN
		}
	})
}
