package rules_test

import (
	"bytes"
	"encoding/json"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// repository is the module that these tests are part of.
type repository struct {
	dir  string
	path string // the module's
}

func findRepository(t *testing.T) repository {
	t.Helper()
	dir, path, ok := strings.Cut(strings.TrimSpace(command(t, ".", "go", "list", "-m", "-f", "{{.Dir}}|{{.Path}}")), "|")
	require.True(t, ok)
	return repository{dir: dir, path: path}
}

// modules returns the directories of the module itself and of those nested in it,
// except below tests/, where no rule holds.
func (r repository) modules(t *testing.T) []string {
	t.Helper()
	var dirs []string
	err := filepath.WalkDir(r.dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == ".git" || path == filepath.Join(r.dir, "tests")):
			return fs.SkipDir
		case entry.Name() == "go.mod":
			dirs = append(dirs, filepath.Dir(path))
		}
		return nil
	})
	require.NoError(t, err)
	return dirs
}

// packages returns the packages of all these modules. One that does not build is no
// reason to keep quiet about the others: -e.
func (r repository) packages(t *testing.T) []goPackage {
	t.Helper()
	var pkgs []goPackage
	for _, dir := range r.modules(t) {
		pkgs = append(pkgs, listPackages(t, dir, "-e", "./...")...)
	}
	return pkgs
}

// entries returns the names at the top level that git tracks, or, where there is no
// git or no clone of it, all that are there.
func (r repository) entries(t *testing.T) []string {
	t.Helper()
	var names []string
	_, err := exec.LookPath("git")
	if _, statErr := os.Stat(filepath.Join(r.dir, ".git")); err == nil && statErr == nil {
		// safe.directory: a clone may belong to another user than the one who tests.
		files := command(t, r.dir, "git", "-c", "safe.directory=*", "ls-files", "-z")
		for file := range strings.SplitSeq(strings.TrimRight(files, "\x00"), "\x00") {
			top, _, _ := strings.Cut(file, "/")
			if top != "" {
				names = append(names, top)
			}
		}
	} else {
		entries, err := os.ReadDir(r.dir)
		require.NoError(t, err)
		for _, entry := range entries {
			if entry.Name() != ".git" {
				names = append(names, entry.Name())
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// goPackage is what go list says of a package.
type goPackage struct {
	ImportPath     string   `json:"ImportPath"`
	Dir            string   `json:"Dir"`
	Imports        []string `json:"Imports"` // not those of tests
	IgnoredGoFiles []string `json:"IgnoredGoFiles"`
	Module         *struct {
		Path string `json:"Path"`
		Main bool   `json:"Main"`
	} `json:"Module"`
}

// listPackages runs go list. The packages of this module are given the imports of the
// files for other systems, too.
func listPackages(t *testing.T, dir string, args ...string) []goPackage {
	t.Helper()
	out := command(t, dir, "go", append([]string{"list", "-json"}, args...)...)
	var pkgs []goPackage
	for decoder := json.NewDecoder(strings.NewReader(out)); decoder.More(); {
		var p goPackage
		require.NoError(t, decoder.Decode(&p))
		if p.Module != nil && p.Module.Main {
			p.Imports = append(p.Imports, ignoredImports(t, p)...)
		}
		pkgs = append(pkgs, p)
	}
	return pkgs
}

func ignoredImports(t *testing.T, p goPackage) []string {
	t.Helper()
	var imports []string
	for _, name := range p.IgnoredGoFiles {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, spec := range file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			imports = append(imports, path)
		}
	}
	return imports
}

// command runs a program in dir and returns what it prints.
func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s: %s", cmd, stderr.String())
	return string(out)
}
