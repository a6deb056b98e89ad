package rules_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEveryExportedNameIsUsed fails for what users can name and no test, example or program under tests/ does. Names are compared and not
// objects, so one that two packages share counts for both.
func TestEveryExportedNameIsUsed(t *testing.T) {
	root := findRepository(t).dir
	exported, used := map[string]string{}, map[string]bool{}
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		rel, err := filepath.Rel(root, path)
		require.NoError(t, err)
		rel = filepath.ToSlash(rel)
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		switch {
		case strings.HasSuffix(rel, "_test.go"), strings.HasPrefix(rel, "tests/"):
			usedNames(file, used)
		case file.Name.Name != "main" && !strings.Contains(rel, "internal/"):
			for name := range exportedNames(file) {
				exported[name] = rel
			}
		}
		return nil
	}))
	require.Contains(t, exported, "LocalLimit")
	for _, name := range slices.Sorted(maps.Keys(exported)) {
		if !used[name] {
			t.Errorf("%s in %s is used by no test and no example", name, exported[name])
		}
	}
}

// exportedNames returns the exported functions, methods, types, fields, constants and variables of a file.
func exportedNames(file *ast.File) map[string]bool {
	names := map[string]bool{}
	add := func(ids ...*ast.Ident) {
		for _, id := range ids {
			if id.IsExported() {
				names[id.Name] = true
			}
		}
	}
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			if receiverIsExported(decl) {
				add(decl.Name)
			}
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				switch spec := spec.(type) {
				case *ast.ValueSpec:
					add(spec.Names...)
				case *ast.TypeSpec:
					if spec.Name.IsExported() {
						add(spec.Name)
						add(membersOf(spec.Type)...)
					}
				}
			}
		}
	}
	return names
}

// receiverIsExported is true of functions, too.
func receiverIsExported(decl *ast.FuncDecl) bool {
	if decl.Recv == nil {
		return true
	}
	for expr := decl.Recv.List[0].Type; ; {
		switch e := expr.(type) {
		case *ast.StarExpr:
			expr = e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.Ident:
			return e.IsExported()
		default:
			return false
		}
	}
}

// membersOf returns the names of a structure's fields or of an interface's methods.
func membersOf(expr ast.Expr) (ids []*ast.Ident) {
	var fields *ast.FieldList
	switch e := expr.(type) {
	case *ast.StructType:
		fields = e.Fields
	case *ast.InterfaceType:
		fields = e.Methods
	default:
		return nil
	}
	for _, f := range fields.List {
		ids = append(ids, f.Names...)
	}
	return ids
}

func usedNames(file *ast.File, used map[string]bool) {
	declared := map[*ast.Ident]bool{}
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil {
			declared[f.Name] = true // a test that is called like what it should use
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && !declared[id] {
			used[id.Name] = true
		}
		return true
	})
}
