package codec_test

import (
	"reflect"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec"
)

// FuzzDefaultUnmarshal decodes arbitrary bytes into many types. Nothing may panic. What was decoded either cannot be
// encoded again (it holds what only bytes of others can bring in) or comes back the same.
//
//	go test -run '^$' -fuzz FuzzDefaultUnmarshal -fuzztime 3m ./remote/codec
func FuzzDefaultUnmarshal(f *testing.F) {
	for _, v := range []any{newEverything(), newJSONToo(), newUser(), tree{Kids: []*tree{{}}}, newEverything().AnyMap, nil, "text", 1.5} {
		b, err := codec.Default.Marshal(v)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, v := range targets() {
			if codec.Default.Unmarshal(data, v) == nil {
				stays(t, v)
			}
		}
	})
}

// stays fails unless what v points to survives another round trip, or is refused.
func stays(t *testing.T, v any) {
	t.Helper()
	b, err := codec.Default.Marshal(v)
	if err != nil {
		return
	}
	again := reflect.New(reflect.TypeOf(v).Elem()).Interface()
	require.NoError(t, codec.Default.Unmarshal(b, again))
	b2, err := codec.Default.Marshal(again)
	require.NoError(t, err)
	require.Equal(t, canonical(t, b), canonical(t, b2), "%#v became %#v", v, again)
}

// canonical returns b with its maps sorted, so that encodings can be compared. Values cannot: there are NaNs, and times
// with different pointers to equal locations.
func canonical(t *testing.T, b []byte) []byte {
	t.Helper()
	dec, err := cbor.DecOptions{TimeTagToAny: cbor.TimeTagToRFC3339Nano, UTF8: cbor.UTF8DecodeInvalid, MaxNestedLevels: 128}.DecMode()
	require.NoError(t, err)
	enc, err := cbor.EncOptions{Sort: cbor.SortBytewiseLexical, NaNConvert: cbor.NaNConvertNone, BigIntConvert: cbor.BigIntConvertNone}.EncMode()
	require.NoError(t, err)
	var x any
	require.NoError(t, dec.Unmarshal(b, &x))
	sorted, err := enc.Marshal(x)
	require.NoError(t, err)
	return sorted
}
