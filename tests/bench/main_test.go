package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/leak"
	"github.com/tandemcache/tandem/tests/redisserver"
)

func TestMain(m *testing.M) { leak.Main(m) }

func TestCommandLine(t *testing.T) {
	t.Parallel()
	s, err := parse(nil, io.Discard)
	require.NoError(t, err)
	require.Equal(t, 6, s.Rounds)
	require.Equal(t, 500*time.Millisecond, s.Time)
	require.Len(t, s.sections, 7)

	s, err = parse([]string{"-only", "miss,l1", "-rounds", "2", "-time", "1s", "-traces", "dir", "-svg", "file"}, io.Discard)
	require.NoError(t, err)
	require.Len(t, s.sections, 2)
	require.Equal(t, "l1", s.sections[0].Name)
	require.Equal(t, "miss", s.sections[1].Name)
	require.Equal(t, []any{2, time.Second, "dir", "file"}, []any{s.Rounds, s.Time, s.Traces, s.svg})

	for args, want := range map[string]string{
		"-only l1,l3": `no section "l3"`, "-rounds 0": "positive", "-time 0s": "positive", "l1": "unexpected argument", "-x": "not defined",
	} {
		_, err := parse(strings.Fields(args), io.Discard)
		require.ErrorContains(t, err, want)
	}
}

// Every section runs to its end, names everybody, and leaves nothing running.
func TestOneCommandPrintsAllTables(t *testing.T) {
	if !redisserver.Need(t) {
		return
	}
	svg := filepath.Join(t.TempDir(), "out.svg")
	args := []string{"-rounds", "1", "-time", "20ms", "-svg", svg, "-only", "l1,l2,miss,stampede,invalidation,cluster"}
	var out strings.Builder
	require.NoError(t, run(t.Context(), args, &out, io.Discard))
	for _, title := range []string{
		"### L1 hit", "### L2 hit, one goroutine", "### L2 hit, 64 goroutines", "### L2 hit, 512 goroutines",
		"### Miss, one goroutine", "### Miss, 64 goroutines", "### Stampede", "### Invalidation",
	} {
		_, table, ok := strings.Cut(out.String(), title)
		require.True(t, ok, "%s in %s", title, out.String())
		table, _, _ = strings.Cut(table, "\n### ")
		require.Contains(t, table, "\n| tandem |")
	}
	for _, row := range []string{
		"| L2 hit, one goroutine: tandem |", "| L2 hit, 64 goroutines: tandem |", "| miss: tandem |", "| drop one key: tandem |",
		"| drop 100 keys: tandem |", "| 100 keys, all in L2: tandem |", "| 100 keys, all in L2: go-redis |",
	} {
		require.Contains(t, out.String(), row)
	}
	require.NotContains(t, out.String(), "NaN")
	picture, err := os.ReadFile(svg)
	require.NoError(t, err)
	require.Contains(t, string(picture), "tandem")
}
