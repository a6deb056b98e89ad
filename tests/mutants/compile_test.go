package mutants

import (
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A mutant that does not compile would be found only where all of them run, an hour later. What it is compiled with is checked here by
// its types, beside the dependencies as the compiler has left them, which takes milliseconds for each.
func TestEveryMutantCompiles(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	sources := sources{fset: token.NewFileSet(), parsed: map[string]*ast.File{}}
	deps := importer.ForCompiler(sources.fset, "gc", exports(t, root))
	for _, m := range all() {
		_, err := (&types.Config{Importer: deps}).Check(filepath.Dir(m.file), sources.fset, sources.of(t, root, m), nil)
		require.NoError(t, err, "%s: a mutant must compile", m.name)
	}
}

// sources are files that are parsed once for all mutants.
type sources struct {
	fset   *token.FileSet
	parsed map[string]*ast.File
}

// of returns the files of the package that m changes, changed, with the tests of it that m's run needs.
func (s sources) of(t *testing.T, root string, m mutant) (files []*ast.File) {
	t.Helper()
	dir := filepath.Join(root, filepath.Dir(m.file))
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	var left []string
	own := dir == filepath.Join(root, m.pkg) // the test of another package is compiled beside, and without this one's
	if own {
		left = unused(t, dir, m.run)
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") && (!own || slices.Contains(left, path)) {
			continue
		}
		fits, err := build.Default.MatchFile(dir, filepath.Base(path))
		require.NoError(t, err)
		if !fits {
			continue
		}
		file := s.parse(t, path)
		if path == filepath.Join(root, m.file) {
			file, err = parser.ParseFile(s.fset, path, changed(t, path, m), parser.SkipObjectResolution)
			require.NoError(t, err, m.name)
		}
		if !strings.HasSuffix(file.Name.Name, "_test") { // a package of its own sees exported names, and these no mutant changes
			files = append(files, file)
		}
	}
	return files
}

func (s sources) parse(t *testing.T, path string) *ast.File {
	t.Helper()
	if s.parsed[path] == nil {
		file, err := parser.ParseFile(s.fset, path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		s.parsed[path] = file
	}
	return s.parsed[path]
}

// exports returns where the compiler's summary of a package is, of all packages that the module and its tests import.
func exports(t *testing.T, root string) importer.Lookup {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-test", "-export", "-f", "{{.ImportPath}}\t{{.Export}}", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	require.NoError(t, err)
	paths := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "\t")
		paths[path] = file
	}
	return func(path string) (io.ReadCloser, error) { return os.Open(paths[path]) }
}
