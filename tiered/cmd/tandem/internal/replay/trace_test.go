package replay_test

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/replay"
)

func TestRead(t *testing.T) {
	t.Parallel()
	want := &replay.Trace{Keys: []string{"7", "-8", "9"}, Accesses: []int32{0, 1, 0, 2}}
	plain := "7\n-8\r\n\n7\n9"

	got, err := replay.Read(strings.NewReader(plain), 0)
	require.NoError(t, err)
	require.Equal(t, want, got)

	var zipped bytes.Buffer
	zip := gzip.NewWriter(&zipped)
	_, err = zip.Write([]byte(plain))
	require.NoError(t, err)
	require.NoError(t, zip.Close())
	got, err = replay.Read(bytes.NewReader(zipped.Bytes()), 0)
	require.NoError(t, err)
	require.Equal(t, want, got)

	got, err = replay.Read(strings.NewReader(plain), 3)
	require.NoError(t, err)
	require.Equal(t, &replay.Trace{Keys: []string{"7", "-8"}, Accesses: []int32{0, 1, 0}}, got)

	_, err = replay.Read(bytes.NewReader(zipped.Bytes()[:zipped.Len()-9]), 0)
	require.Error(t, err, "cut off")
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                          "there is no access",
		"\n\n":                      "there is no access",
		"7\nseven\n":                `line 2 is "seven"`,
		"99999999999999999999\n":    "line 1 is",
		"\x1f\x8bnot really gzip":   "gzip",
		strings.Repeat("7", 70_000): "too long",
	} {
		_, err := replay.Read(strings.NewReader(text), 0)
		require.ErrorContains(t, err, want)
	}
}
