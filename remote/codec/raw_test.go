package codec_test

import (
	"encoding/json"
	"net"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec"
)

func TestRaw_KeepsBytesAsTheyAre(t *testing.T) {
	t.Parallel()
	type text string
	type octet byte
	for _, v := range []any{
		"", "text", "not \xff UTF-8", text("named"), []byte("bytes\x00"), []byte{}, json.RawMessage(`{"a": 1.0}`),
		net.IP{10, 0, 0, 1}, // has MarshalText, which is not wanted here
		[]octet{1, 2},
	} {
		b, err := codec.Raw.Marshal(v)
		require.NoError(t, err)
		require.Len(t, b, reflect.ValueOf(v).Len())

		out := reflect.New(reflect.TypeOf(v))
		require.NoError(t, codec.Raw.Unmarshal(b, out.Interface()))
		require.Equal(t, v, out.Elem().Interface())

		in := reflect.New(reflect.TypeOf(v))
		in.Elem().Set(reflect.ValueOf(v))
		viaPointer, err := codec.Raw.Marshal(in.Interface())
		require.NoError(t, err)
		require.Equal(t, b, viaPointer)
	}
}

func TestRaw_NilComesBackEmpty(t *testing.T) {
	t.Parallel()
	b, err := codec.Raw.Marshal([]byte(nil))
	require.NoError(t, err)
	require.Equal(t, []byte{}, b)
	var out []byte
	require.NoError(t, codec.Raw.Unmarshal(nil, &out))
	require.Equal(t, []byte{}, out)
	var named json.RawMessage
	require.NoError(t, codec.Raw.Unmarshal(nil, &named))
	require.Equal(t, json.RawMessage{}, named)
}

func TestRaw_Copies(t *testing.T) {
	t.Parallel()
	for _, out := range []any{new([]byte), new(json.RawMessage)} {
		in := []byte("abc")
		b, err := codec.Raw.Marshal(in)
		require.NoError(t, err)
		in[0] = 'x'
		require.Equal(t, "abc", string(b))

		require.NoError(t, codec.Raw.Unmarshal(b, out))
		b[0] = 'y'
		require.Equal(t, "abc", string(reflect.ValueOf(out).Elem().Bytes()))
	}
}

func TestRaw_RefusesOtherTypes(t *testing.T) {
	t.Parallel()
	for want, v := range map[string]any{
		"codec raw: int: neither a string nor a byte slice":      7,
		"codec raw: []int: neither a string nor a byte slice":    []int{1},
		"codec raw: [2]uint8: neither a string nor a byte slice": [2]byte{},
		"codec raw: <nil>: neither a string nor a byte slice":    nil,
		"codec raw: *string: neither a string nor a byte slice":  (*string)(nil),
		"codec raw: *[]uint8: neither a string nor a byte slice": (*[]byte)(nil),
	} {
		_, err := codec.Raw.Marshal(v)
		require.EqualError(t, err, want)
	}
	require.EqualError(t, codec.Raw.Unmarshal(nil, new(int)), "codec raw: int: neither a string nor a byte slice")
	for _, v := range []any{nil, "", (*string)(nil), (*[]byte)(nil), (*json.RawMessage)(nil)} {
		require.ErrorContains(t, codec.Raw.Unmarshal(nil, v), "not a non-nil pointer")
	}
}
