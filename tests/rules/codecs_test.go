package rules_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// optional are the modules that only the codecs link that are packages of their own below remote/codec.
var optional = []string{
	"github.com/klauspost/compress",
	"github.com/vmihailenco/msgpack",
	"github.com/vmihailenco/tagparser",
	"golang.org/x/crypto",
	"google.golang.org/protobuf",
}

func TestOptionalCodecsAreNotLinked(t *testing.T) {
	t.Parallel()
	repo := findRepository(t)
	pkgs := listPackages(t, repo.dir, "-deps", repo.path+"/tiered")
	require.NotEmpty(t, pkgs)
	for _, p := range pkgs {
		for _, module := range optional {
			require.False(t, within(p.ImportPath, module), "a program that imports only tiered links %s", p.ImportPath)
		}
		require.False(t, within(p.ImportPath, repo.path+"/remote/codec") && p.ImportPath != repo.path+"/remote/codec",
			"a program that imports only tiered links %s", p.ImportPath)
	}
}

// What shows a cache is for whoever imports it.
func TestWhatShowsACacheIsNotLinked(t *testing.T) {
	t.Parallel()
	repo := findRepository(t)
	for _, p := range listPackages(t, repo.dir, "-deps", repo.path+"/tiered") {
		require.NotEqual(t, "net/http", p.ImportPath)
	}
	for _, module := range repo.modules(t)[1:] {
		for _, p := range listPackages(t, module, "-deps", "./...") {
			require.False(t, within(p.ImportPath, "testing"), "%s links %s", module, p.ImportPath)
		}
	}
}

func within(path, parent string) bool { return path == parent || strings.HasPrefix(path, parent+"/") }
