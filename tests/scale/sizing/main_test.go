package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/scale/internal/sizing"
)

func TestAllTablesArePrinted(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "units.json")
	require.NoError(t, sizing.Units{
		BeatsPerBound: 3, Beat: sizing.Line{Fixed: 100, Each: 10}, Invalidate: sizing.Line{Fixed: 80, Each: 10}, Read: 5, Store: 10,
	}.Save(file))
	var out strings.Builder
	require.NoError(t, run([]string{"-units", file, "-span", "1s"}, &out))
	for _, title := range []string{
		"### What was measured", "### 1000 instances on 20 masters at rest", ": one instance", ": simulated", "### Invalidates/s of all",
		"### 4000 instances on 20 masters, and what can be changed",
	} {
		require.Contains(t, out.String(), title)
	}
	require.NotContains(t, out.String(), "NaN")
	require.NotContains(t, out.String(), "Inf")
	require.Contains(t, out.String(), "does not keep up", "ten thousand a second are too many")

	require.Error(t, run([]string{"-units", file + "x"}, &out))
	require.Error(t, run([]string{"-units", file, "-partitions", "3"}, &out))
}
