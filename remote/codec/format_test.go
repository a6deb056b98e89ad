package codec_test

import (
	"encoding/hex"
	"encoding/json"
	"math/big"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec"
)

// TestDefault_FormatIsPinned decodes what an earlier build wrote, and writes the same. If it fails, the name of the codec
// has to change.
func TestDefault_FormatIsPinned(t *testing.T) {
	t.Parallel()
	type binary struct {
		A    int             `json:"a"`
		B    []byte          `json:"b"`
		F    float32         `json:"f"`
		T    time.Time       `json:"t"`
		Z    time.Time       `json:"z"`
		N    *big.Int        `json:"n"`
		Any  []any           `json:"any"`
		Raw  json.RawMessage `json:"raw"`
		Addr netip.Addr      `json:"addr"`
		Nil  []int           `json:"nil"`
	}
	type text struct {
		T textOnly
		A netip.Addr
	}
	type inJSON struct {
		J jsonOnly
		T textJSON
	}
	when := time.Date(2024, 1, 2, 3, 4, 5, 6, time.FixedZone("", -3600))
	pinned(t, binary{
		-1, []byte{1}, 0.5, when, time.Time{}, big.NewInt(-1), []any{when, int64(1), 1.5, nil, "é"}, json.RawMessage("{}"),
		netip.MustParseAddr("10.0.0.1"), nil,
	}, "aa616120616241016166fa3f0000006174c07823323032342d30312d30325430333a30343a30352e3030303030303030362d30313a3030617af6616ec34063616e7985c07823323032342d30312d30325430333a30343a30352e3030303030303030362d30313a303001fb3ff8000000000000f662c3a963726177427b7d6461646472440a000001636e696cf6")
	pinned(t, text{textOnly{secret{"x"}}, netip.MustParseAddr("10.0.0.1")}, "a2615466746578743a786141440a000001")
	pinned(t, inJSON{jsonOnly{secret{"x"}}, textJSON{secret{"y"}}}, "a2614ad901065a00000008226a736f6e3a78226154d901065a00000008226a736f6e3a7922")
	pinned(t, struct{ A, B any }{map[string]any{"k": []any{}}, nil}, "a26141a1616b806142f6")
}

func pinned[V any](t *testing.T, v V, want string) {
	t.Helper()
	b, err := codec.Default.Marshal(v)
	require.NoError(t, err)
	require.Equal(t, want, hex.EncodeToString(b))
	var out V
	require.NoError(t, codec.Default.Unmarshal(b, &out))
	again, err := codec.Default.Marshal(out)
	require.NoError(t, err)
	require.Equal(t, b, again)
}
