package mutants

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// mutant is a mechanism, how to remove it, and the test that must notice: as a rule on a single Redis, since to start a cluster
// for each would take longer than all the rest.
type mutant struct {
	name     string
	file     string
	old, new string
	pkg, run string
	long     bool // the test is of what -short leaves out
}

func all() []mutant {
	return slices.Concat(mutants, firstTier, bus, batches, aging, acknowledgements, tags, readers, clusters)
}

func TestEveryMechanismIsMissed(t *testing.T) {
	if os.Getenv("TANDEM_MUTANTS") == "" {
		t.Skip("TANDEM_MUTANTS is not set: this takes minutes")
	}
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	for _, m := range all() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			overlay := write(t, root, m)
			run := func(count string) (string, error) {
				return goTest(root, "-overlay", overlay, "-vet=off", "-ldflags=-s -w", "-count="+count, "-failfast", "-timeout=60s",
					fmt.Sprintf("-short=%t", !m.long), "-run", m.run, m.pkg)
			}
			out, err := run("1")
			if err == nil {
				t.Log("it was not noticed at once: the test needs luck with the order of things")
				out, err = run("10")
			}
			require.NotContains(t, out, "[build failed]", "a mutant must compile")
			require.NotContains(t, out, "no tests to run")
			require.Error(t, err, "nothing failed without it")
			t.Logf("noticed by %s", failed(out))
		})
	}
}

// The texts and the tests must be there also where the mutants do not run.
func TestEveryMutantAppliesOnce(t *testing.T) {
	t.Parallel()
	for _, m := range all() {
		source, err := os.ReadFile(filepath.Join("../..", m.file))
		require.NoError(t, err)
		require.Equal(t, 1, strings.Count(string(source), m.old), "%s: its text in %s", m.name, m.file)
		unused(t, filepath.Join("../..", m.pkg), m.run)
	}
}

func write(t *testing.T, root string, m mutant) (overlay string) {
	t.Helper()
	path := filepath.Join(root, m.file)
	dir := t.TempDir()
	instead := filepath.Join(dir, filepath.Base(m.file))
	require.NoError(t, os.WriteFile(instead, changed(t, path, m), 0o600))
	replace := map[string]string{path: instead}
	for _, file := range unused(t, filepath.Join(root, m.pkg), m.run) {
		replace[file] = "" // not there
	}
	plan, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	overlay = filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(overlay, plan, 0o600))
	return overlay
}

// changed returns the file at path without the mechanism.
func changed(t *testing.T, path string, m mutant) []byte {
	t.Helper()
	source, err := os.ReadFile(path)
	require.NoError(t, err)
	return []byte(strings.Replace(string(source), m.old, m.new, 1))
}

func goTest(dir string, args ...string) (string, error) {
	cmd := exec.Command("go", append([]string{"test"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOGC=400") // a quarter of the compiler's time is its garbage collector's
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// failed returns the names of the tests that failed.
func failed(out string) string {
	var names []string
	for line := range strings.Lines(out) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "--- FAIL: "); ok {
			name, _, _ = strings.Cut(name, " ")
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "the run as a whole: " + out[max(0, len(out)-300):]
	}
	return strings.Join(names, ", ")
}
