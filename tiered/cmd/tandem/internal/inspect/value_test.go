package inspect

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// render must find some form for any bytes, and it must not need its recover for that.
func FuzzRender(f *testing.F) {
	f.Add([]byte(`{"a": 1}`))
	f.Add([]byte{0xa1, 0x61, 0x61, 0x01})
	f.Add([]byte{0xd9, 0x01, 0x06, 0x41, 0x31})
	f.Add([]byte{0xa1, 0x01, 0x02})
	f.Add([]byte{0xf9, 0x7e, 0x00})
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, codec := range []string{"cbor-1", "json", "raw", "other"} {
			v := render(codec, payload)
			require.NotContains(t, v.Error, "panicked")
			if v.JSON != nil {
				require.True(t, json.Valid(v.JSON), "%s", v.JSON)
			}
			_, err := json.Marshal(v)
			require.NoError(t, err)
			(&Entry{Schemas: []*Schema{{Value: v}}}).Print(&strings.Builder{})
		}
	})
}
