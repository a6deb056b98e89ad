package protobuf_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/typepb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/tandemcache/tandem/remote/codec"
	"github.com/tandemcache/tandem/remote/codec/protobuf"
	"github.com/tandemcache/tandem/tests/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

func TestName_IsPinned(t *testing.T) {
	t.Parallel()
	// It is stored in Redis: another one makes every entry a miss.
	require.Equal(t, "protobuf-1", protobuf.Codec.Name())
	require.True(t, codec.ValidName(protobuf.Codec.Name()))
}

// Without it the values would be told apart by their Go types, which say nothing of a message's fields.
func TestTheCodecTellsTypesApartItself(t *testing.T) {
	t.Parallel()
	c, ok := protobuf.Codec.(codec.Fingerprinter)
	require.True(t, ok)
	typ := reflect.TypeFor[*structpb.Struct]()
	require.Equal(t, c.Fingerprint(typ), codec.Fingerprint(protobuf.Codec, typ))
}

func TestFingerprint_IsPinned(t *testing.T) {
	t.Parallel()
	// In use: if it changes, a release loses all that is cached.
	require.Equal(t, "fcc76a73ab08e2b0", fmt.Sprintf("%016x", codec.Fingerprint(protobuf.Codec, reflect.TypeFor[*structpb.Struct]())))
}

// newFile returns a message with most kinds of fields, maps and oneofs aside.
func newFile() *descriptorpb.FileDescriptorProto {
	return protodesc.ToFileDescriptorProto(descriptorpb.File_google_protobuf_descriptor_proto)
}

func newStruct(t testing.TB) *structpb.Struct {
	t.Helper()
	s, err := structpb.NewStruct(map[string]any{
		"text": "x", "number": 1.5, "null": nil, "yes": true, "list": []any{1.0, "y", []any{}}, "map": map[string]any{"a": map[string]any{}},
	})
	require.NoError(t, err)
	return s
}

func roundTrip[M proto.Message](t *testing.T, m M) {
	t.Helper()
	require.NoError(t, codec.Check(protobuf.Codec, reflect.TypeFor[M]()))
	b, err := protobuf.Codec.Marshal(m)
	require.NoError(t, err)
	viaPointer, err := protobuf.Codec.Marshal(&m)
	require.NoError(t, err)
	require.Len(t, viaPointer, len(b)) // maps have no order
	before := bytes.Clone(b)
	var out M
	require.NoError(t, protobuf.Codec.Unmarshal(b, &out))
	require.Equal(t, before, b)
	clear(b)
	require.True(t, proto.Equal(m, out), "%v became %v", m, out)
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	roundTrip(t, newFile())
	roundTrip(t, newStruct(t))
	roundTrip(t, timestamppb.Now())
	roundTrip(t, wrapperspb.Bytes([]byte{0, 255}))
	roundTrip(t, wrapperspb.String(""))
	roundTrip(t, &structpb.Struct{})
	roundTrip(t, &wrapperspb.StringValue{})
	inAny, err := anypb.New(wrapperspb.String("x"))
	require.NoError(t, err)
	roundTrip(t, inAny)
	roundTrip(t, &typepb.Type{Name: "x", Options: []*typepb.Option{{Value: inAny}}, Syntax: typepb.Syntax(99)})

	unknown := wrapperspb.String("x")
	unknown.ProtoReflect().SetUnknown([]byte{0x28, 1})
	roundTrip(t, unknown)
}

type embedsPointer struct {
	*wrapperspb.StringValue

	N int
}

type embedsValue struct {
	wrapperspb.StringValue

	N int
}

func TestCheck_Refuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		t    reflect.Type
		want string
	}{
		{reflect.TypeFor[wrapperspb.StringValue](), "a message must not be copied: use *wrapperspb.StringValue"},
		{reflect.TypeFor[proto.Message](), "nothing says which message to make"},
		{reflect.TypeFor[any](), "nothing says which message to make"},
		{reflect.TypeFor[string](), "not a pointer to a message"},
		{reflect.TypeFor[*string](), "not a pointer to a message"},
		{reflect.TypeFor[[]*wrapperspb.StringValue](), "not a pointer to a message"},
		{reflect.TypeFor[**wrapperspb.StringValue](), "not a pointer to a message"},
		{reflect.TypeFor[*dynamicpb.Message](), "its type does not tell which message it is"},
		{reflect.TypeFor[*embedsPointer](), "its type does not tell which message it is"},
		{reflect.TypeFor[*embedsValue](), "its type does not tell which message it is"},
	} {
		err := codec.Check(protobuf.Codec, tc.t)
		var typeErr *codec.TypeError
		require.ErrorAs(t, err, &typeErr, "%v", tc.t)
		require.ErrorContains(t, err, tc.want, "%v", tc.t)
		require.Zero(t, codec.Fingerprint(protobuf.Codec, tc.t))
		require.Error(t, protobuf.Codec.Unmarshal(nil, reflect.New(tc.t).Interface()), "%v", tc.t)
	}
	require.Error(t, codec.Check(protobuf.Codec, nil))
}

func TestMarshal_Refuses(t *testing.T) {
	t.Parallel()
	var none *wrapperspb.StringValue
	ring := &structpb.ListValue{}
	ring.Values = []*structpb.Value{structpb.NewListValue(ring)}
	loop := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	loop.Fields["a"] = structpb.NewStructValue(loop)
	for name, v := range map[string]any{
		"nil":                 nil,
		"nil message":         none,
		"pointer to nil":      &none,
		"nil pointer":         (**wrapperspb.StringValue)(nil),
		"no message":          "x",
		"pointer to no":       new(string),
		"not UTF-8":           wrapperspb.String("\xff"),
		"list in itself":      ring,
		"map in itself":       loop,
		"a required field":    &descriptorpb.UninterpretedOption_NamePart{},
		"made at run time":    dynamicpb.NewMessage(wrapperspb.String("").ProtoReflect().Descriptor()),
		"embeds":              &embedsPointer{StringValue: wrapperspb.String("x"), N: 1},
		"embeds the value":    &embedsValue{N: 1},
		"nested too deep":     nestedValue(140),
		"nested in a pointer": new(nestedValue(140)),
	} {
		_, err := protobuf.Codec.Marshal(v)
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "panic", name)
	}
	roundTrip(t, nestedValue(60)) // lists and their values count
}

func nestedValue(n int) *structpb.Value {
	v := structpb.NewNumberValue(1)
	for range n {
		v = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{v}})
	}
	return v
}

func TestNested_UpToTheLimitIsReadAgain(t *testing.T) {
	t.Parallel()
	roundTrip(t, nestedValue(64))
	_, err := protobuf.Codec.Marshal(nestedValue(65))
	require.ErrorContains(t, err, "nested more than 128 levels")
	s := &structpb.Struct{}
	for range 64 {
		s = &structpb.Struct{Fields: map[string]*structpb.Value{"a": structpb.NewStructValue(s)}}
	}
	roundTrip(t, s)
}

func TestUnmarshal_RefusesBadBytes(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"cut short":        "0a05616263",
		"length of 2^63":   "0affffffffffffffff7f",
		"field 0":          "0001",
		"open group":       "13",
		"closed group":     "14",
		"reserved type":    "0f",
		"not UTF-8":        "0a01ff",
		"varint too long":  "10ffffffffffffffffffff01",
		"deep groups":      strings.Repeat("13", 20_000),
		"deep, and closed": strings.Repeat("13", 20_000) + strings.Repeat("14", 20_000),
	} {
		b, err := hex.DecodeString(data)
		require.NoError(t, err)
		require.Error(t, protobuf.Codec.Unmarshal(b, new(*wrapperspb.StringValue)), name)
	}
	var out *wrapperspb.StringValue
	require.Error(t, protobuf.Codec.Unmarshal(nil, nil))
	require.Error(t, protobuf.Codec.Unmarshal(nil, (**wrapperspb.StringValue)(nil)))
	require.Error(t, protobuf.Codec.Unmarshal([]byte{0x0a}, &out))
	require.Nil(t, out)
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
	for name, data := range map[string][]byte{
		"claims 2^31 bytes":         repeat("0affffffff07", "00"),
		"claims 2^63 bytes":         repeat("0affffffffffffffff7f", "00"),
		"packed, claims 2^31":       repeat("52ffffffff07", "01"),
		"packed numbers":            repeat("52808004", "01"),
		"empty elements":            repeat("", "0a00"),
		"empty messages":            repeat("", "2200"),
		"nested":                    repeat("", "0a7f"),
		"groups":                    repeat("", "13"),
		"entries of a map":          repeat("", "0a020a00"),
		"unknown fields":            repeat("", "f80100"),
		"claims at each level":      repeat("", "0affffffff07"),
		"groups, each in the other": repeat(strings.Repeat("13", 100), "14"),
	} {
		for _, v := range targets() {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_ = protobuf.Codec.Unmarshal(data, v)
			runtime.ReadMemStats(&after)
			// Two bytes are a message, which takes its struct and a pointer in a list that doubles. The largest struct of
			// those here has 216 bytes.
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(256*size), "%s into %T", name, v)
		}
	}
}

// targets returns what bytes are decoded into.
func targets() []any {
	return []any{
		new(*descriptorpb.FileDescriptorProto), new(*structpb.Struct), new(*structpb.ListValue), new(*typepb.Type), new(*anypb.Any),
		new(*wrapperspb.StringValue), new(*wrapperspb.BytesValue), new(*timestamppb.Timestamp), new(*descriptorpb.UninterpretedOption),
	}
}

func FuzzUnmarshal(f *testing.F) {
	for _, m := range []proto.Message{newFile(), newStruct(f), nestedValue(5), wrapperspb.String("x")} {
		b, err := protobuf.Codec.Marshal(m)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Add([]byte{0x13, 0x14})
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, v := range targets() {
			if protobuf.Codec.Unmarshal(data, v) != nil {
				continue
			}
			b, err := protobuf.Codec.Marshal(v)
			if err != nil {
				continue // nested deeper than what is written
			}
			again := reflect.New(reflect.TypeOf(v).Elem())
			require.NoError(t, protobuf.Codec.Unmarshal(b, again.Interface()))
			b2, err := protobuf.Codec.Marshal(again.Interface())
			require.NoError(t, err)
			require.Len(t, b2, len(b)) // maps have no order, and NaN is not NaN
		}
	})
}
