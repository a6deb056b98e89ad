package readme

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// feature is a row of the feature table.
type feature struct{ name, tandem string }

func features(t *testing.T) []feature {
	t.Helper()
	text, err := os.ReadFile("../features.md")
	require.NoError(t, err)
	_, table, ok := strings.Cut(string(text), "\n| Feature | tandem |")
	require.True(t, ok)
	lines := strings.Split(strings.TrimSpace(table), "\n")
	columns := strings.Count(lines[1], "|")
	var found []feature
	for _, line := range lines[2:] {
		require.Equal(t, columns, strings.Count(line, "|"), line)
		cells := strings.Split(line, "|")
		if f := (feature{strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2])}); !strings.HasPrefix(f.name, "**") {
			found = append(found, f)
		}
	}
	return found
}

// functions are the names of the functions of a file.
func functions(source string) []string {
	var names []string
	for _, found := range regexp.MustCompile(`(?m)^func (\w+)\(`).FindAllStringSubmatch(source, -1) {
		names = append(names, found[1])
	}
	return names
}

// Every cell of tandem in the feature table that claims something names tests that show it, and that exist.
func TestEveryFeatureHasATest(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\[([^]]+)\]\(([^)]+)\)`)
	for _, f := range features(t) {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			require.NotEmpty(t, f.tandem)
			tests := link.FindAllStringSubmatch(f.tandem, -1)
			if !regexp.MustCompile(`^N\b`).MatchString(f.tandem) {
				require.NotEmpty(t, tests, f.tandem)
			}
			for _, test := range tests {
				name, path := test[1], filepath.Join("..", test[2])
				require.Regexp(t, `^(Test|Example|Fuzz)`, name)
				require.Regexp(t, `_test\.go$`, path)
				source, err := os.ReadFile(path)
				require.NoError(t, err)
				require.Contains(t, functions(string(source)), name, path)
			}
		})
	}
}
