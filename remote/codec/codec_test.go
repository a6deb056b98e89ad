package codec_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec"
)

// user is the value of the benchmarks.
type user struct {
	ID   int64    `json:"id"`
	Name string   `json:"name"`
	Tags []string `json:"tags"`
	Body []byte   `json:"body"`
}

func newUser() user {
	body := make([]byte, 512)
	for i := range body {
		body[i] = byte(i * 7)
	}
	return user{ID: 1234567890123, Name: strings.Repeat("n", 32), Tags: []string{"alpha", "beta", "gamma", "delta"}, Body: body}
}

func TestNames(t *testing.T) {
	t.Parallel()
	// The names are stored in Redis: a changed one makes every entry a miss.
	for want, c := range map[string]codec.Codec{"raw": codec.Raw, "json": codec.JSON, "cbor-1": codec.Default} {
		require.Equal(t, want, c.Name())
		require.True(t, codec.ValidName(c.Name()))
	}
}

func TestValidName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "-", "0", "cbor-1", strings.Repeat("z", 16)} {
		require.True(t, codec.ValidName(name), name)
	}
	for _, name := range []string{"", "A", "a.b", "a b", "é", "a\x00", strings.Repeat("z", 17)} {
		require.False(t, codec.ValidName(name), name)
	}
}

func TestFor(t *testing.T) {
	t.Parallel()
	type text string
	type blob []byte
	type octet byte
	require.Equal(t, codec.Raw, codec.For[string]())
	require.Equal(t, codec.Raw, codec.For[text]())
	require.Equal(t, codec.Raw, codec.For[[]byte]())
	require.Equal(t, codec.Raw, codec.For[blob]())
	require.Equal(t, codec.Raw, codec.For[[]octet]())

	require.Equal(t, codec.Default, codec.For[user]())
	require.Equal(t, codec.Default, codec.For[*string]())
	require.Equal(t, codec.Default, codec.For[[]int]())
	require.Equal(t, codec.Default, codec.For[[4]byte]())
	require.Equal(t, codec.Default, codec.For[any]())
	require.Equal(t, codec.Default, codec.For[int]())
}

type unchecked struct{ codec.Codec }

func TestCheck(t *testing.T) {
	t.Parallel()
	fn := reflect.TypeFor[func()]()
	require.NoError(t, codec.Check(codec.Default, reflect.TypeFor[user]()))
	require.NoError(t, codec.Check(unchecked{codec.Default}, fn), "a codec that cannot tell")

	var typeErr *codec.TypeError
	require.ErrorAs(t, codec.Check(codec.Default, fn), &typeErr)
	require.Equal(t, "cbor-1", typeErr.Codec)
	require.Equal(t, fn, typeErr.Root)

	require.NoError(t, codec.Check(codec.Raw, reflect.TypeFor[string]()))
	require.NoError(t, codec.Check(codec.Raw, reflect.TypeFor[[]byte]()))
	require.EqualError(t, codec.Check(codec.Raw, reflect.TypeFor[int]()), "codec raw: int: neither a string nor a byte slice")
	require.Error(t, codec.Check(codec.Raw, nil))
	require.NoError(t, codec.Check(codec.Default, nil))
}
