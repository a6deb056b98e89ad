package codec_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec"
)

func TestJSON_RoundTrip(t *testing.T) {
	t.Parallel()
	in := newUser()
	b, err := codec.JSON.Marshal(in)
	require.NoError(t, err)
	require.Contains(t, string(b), `"id":1234567890123`)
	var out user
	require.NoError(t, codec.JSON.Unmarshal(b, &out))
	require.Equal(t, in, out)
}

func TestJSON_Errors(t *testing.T) {
	t.Parallel()
	_, err := codec.JSON.Marshal(math.NaN())
	require.ErrorContains(t, err, "codec json: ")
	for _, data := range []string{``, `{`, `{} x`, `{"id":"text"}`, "\x00"} {
		require.ErrorContains(t, codec.JSON.Unmarshal([]byte(data), &user{}), "codec json: decode into *codec_test.user: ", data)
	}
	require.ErrorContains(t, codec.JSON.Unmarshal([]byte(`"x"`), &panicker{}), "panic: runtime error: index out of range")
}

// panicker decodes as carelessly as some types do.
type panicker struct{ first byte }

func (p panicker) MarshalBinary() ([]byte, error) { return []byte{p.first}, nil }
func (p *panicker) UnmarshalBinary(b []byte) error {
	p.first = b[1<<20:][0]
	return nil
}
func (p *panicker) UnmarshalJSON(b []byte) error {
	var none []byte
	p.first = none[len(b)]
	return nil
}
