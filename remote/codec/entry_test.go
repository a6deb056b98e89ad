package codec_test

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec"
)

var _ codec.EntryCodec = bound{}

// bound writes the entry in front of the value.
type bound struct{ codec.Codec }

func (b bound) MarshalEntry(e codec.Entry, v any) ([]byte, error) {
	data, err := b.Marshal(v)
	return append([]byte(e.Cache+"/"+e.Key+"/"), data...), err
}

func (b bound) UnmarshalEntry(e codec.Entry, data []byte, v any) error {
	return b.Unmarshal(data[len(e.Cache+"/"+e.Key+"/"):], v)
}

func TestMarshalFor(t *testing.T) {
	t.Parallel()
	e := codec.Entry{Cache: "users", Key: "1"}
	for want, c := range map[string]codec.Codec{
		"x":         codec.Raw,
		"users/1/x": bound{codec.Raw},
	} {
		for _, c := range []codec.Codec{c, codec.Versioned(c, 2)} {
			b, err := codec.MarshalFor(c, e, "x")
			require.NoError(t, err)
			require.Equal(t, want, string(b))
			var out string
			require.NoError(t, codec.UnmarshalFor(c, e, b, &out))
			require.Equal(t, "x", out)
		}
	}
}

func TestVersioned(t *testing.T) {
	t.Parallel()
	for _, c := range []codec.Codec{codec.Raw, codec.Default, other{codec.Default}} {
		seen := map[uint64]bool{}
		for _, c := range []codec.Codec{c, codec.Versioned(c, 0), codec.Versioned(c, 1), codec.Versioned(c, 2), codec.Versioned(codec.Versioned(c, 1), 2)} {
			seen[fingerprint[string](c)] = true
		}
		require.Len(t, seen, 5)
	}
	v := codec.Versioned(codec.Default, 1)
	require.Equal(t, "cbor-1", v.Name())
	require.NotEqual(t, fingerprint[int](v), fingerprint[string](v))
	require.Error(t, codec.Check(v, reflect.TypeFor[chan int]()))
	require.NoError(t, codec.Check(v, reflect.TypeFor[user]()))
	b, err := v.Marshal(newUser())
	require.NoError(t, err)
	var out user
	require.NoError(t, v.Unmarshal(b, &out))
	require.Equal(t, newUser(), out)
}

func TestVersioned_IsPinned(t *testing.T) {
	t.Parallel()
	// In use: if it changes, a release loses all that is cached.
	require.Equal(t, uint64(0x42a7684bc4ad6c50), fingerprint[string](codec.Versioned(codec.Raw, 2)))
}
