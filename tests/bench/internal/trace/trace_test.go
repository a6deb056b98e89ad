package trace_test

import (
	"compress/gzip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/bench/internal/trace"
)

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, name))
	require.NoError(t, err)
	zip := gzip.NewWriter(f)
	_, err = zip.Write([]byte(text))
	require.NoError(t, err)
	require.NoError(t, zip.Close())
	require.NoError(t, f.Close())
}

func TestDirectoryReadsItsTraces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "b.txt.gz", "3\n1\n3\n")
	write(t, dir, "a.txt.gz", "7\n-9223372036854775808")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "README.md"), []byte("not a trace"), 0o600))

	traces, err := trace.Directory(dir)
	require.NoError(t, err)
	require.Equal(t, []trace.Trace{
		{Name: "a", IDs: []int64{7, -9223372036854775808}, Distinct: 2},
		{Name: "b", IDs: []int64{3, 1, 3}, Distinct: 2},
	}, traces)
}

func TestDirectoryNamesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	_, err := trace.Directory(t.TempDir())
	require.ErrorContains(t, err, "no *.txt.gz in")

	dir := t.TempDir()
	write(t, dir, "words.txt.gz", "1\ntwo\n")
	_, err = trace.Directory(dir)
	require.ErrorContains(t, err, "words.txt.gz: line 2")

	dir = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "plain.txt.gz"), []byte("1\n2\n"), 0o600))
	_, err = trace.Directory(dir)
	require.ErrorContains(t, err, "plain.txt.gz")

	dir = t.TempDir()
	write(t, dir, "cut.txt.gz", "1\n2\n3\n4\n5\n6\n")
	whole, err := os.ReadFile(filepath.Join(dir, "cut.txt.gz"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cut.txt.gz"), whole[:len(whole)-6], 0o600))
	_, err = trace.Directory(dir)
	require.ErrorContains(t, err, "unexpected EOF")
}

func TestZipfIsRepeatable(t *testing.T) {
	t.Parallel()
	a, b := trace.Zipf(1000, 5000), trace.Zipf(1000, 5000)
	require.Equal(t, a, b)
	require.Len(t, a.IDs, 5000)
	require.Greater(t, a.Distinct, 400)
	require.LessOrEqual(t, a.Distinct, 1000)
}
