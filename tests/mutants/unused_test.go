package mutants

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// testFile is a test file with the names that it declares, those of the types that it declares methods of, and all that it mentions.
type testFile struct {
	path                        string
	declares, extends, mentions map[string]bool
}

// unused returns the test files of a package that a run does not need, for the compiler takes most of the time of a mutant. Needed are
// those with the tests, and those that declare what these mention, and so on. Names are compared and not objects, so it may be
// more than are needed; fewer would not compile.
func unused(t *testing.T, dir, run string) (files []string) {
	t.Helper()
	all := parseTests(t, dir)
	run, _, _ = strings.Cut(run, "/") // the rest chooses subtests
	wanted := regexp.MustCompile(run)
	needed := make([]bool, len(all))
	mentioned := map[string]bool{}
	need := func(i int) {
		needed[i] = true
		for name := range all[i].mentions {
			mentioned[name] = true
		}
	}
	for i, f := range all {
		for name := range f.declares {
			if isTest(name) && wanted.MatchString(name) && !needed[i] {
				need(i)
			}
		}
	}
	require.Contains(t, needed, true, "no test in %s is chosen by %q", dir, run)
	for grown := true; grown; {
		grown = false
		for i, f := range all {
			if !needed[i] && f.isNeeded(mentioned) {
				need(i)
				grown = true
			}
		}
	}
	for i, f := range all {
		if !needed[i] {
			files = append(files, f.path)
		}
	}
	return files
}

func isTest(name string) bool { return strings.HasPrefix(name, "Test") && name != "TestMain" }

// isNeeded leaves out tests, which nobody mentions but who is called alike. TestMain is always needed.
func (f testFile) isNeeded(mentioned map[string]bool) bool {
	for name := range f.declares {
		if name == "TestMain" || mentioned[name] && !isTest(name) {
			return true
		}
	}
	for name := range f.extends {
		if mentioned[name] {
			return true
		}
	}
	return false
}

func parseTests(t *testing.T, dir string) (files []testFile) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	require.NoError(t, err)
	for _, path := range paths {
		parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		f := testFile{path: path, declares: map[string]bool{}, extends: map[string]bool{}, mentions: map[string]bool{}}
		for _, decl := range parsed.Decls {
			f.declare(decl)
		}
		ast.Inspect(parsed, f.mention)
		files = append(files, f)
	}
	return files
}

// mention leaves out what stands behind a dot: a field, a method, or a name of another package.
func (f testFile) mention(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.SelectorExpr:
		ast.Inspect(n.X, f.mention)
		return false
	case *ast.Ident:
		f.mentions[n.Name] = true
	}
	return true
}

func (f testFile) declare(decl ast.Decl) {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		if decl.Recv == nil {
			f.declares[decl.Name.Name] = true
			return
		}
		ast.Inspect(decl.Recv.List[0].Type, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				f.extends[id.Name] = true
			}
			return true
		})
	case *ast.GenDecl:
		for _, spec := range decl.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				f.declares[spec.Name.Name] = true
			case *ast.ValueSpec:
				for _, id := range spec.Names {
					f.declares[id.Name] = true
				}
			}
		}
	}
}
