// Package rules_test holds the repository to its layout: which package may import
// which, what a user of the library links, and what lies at the top level.
package rules_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	ristretto = "github.com/dgraph-io/ristretto"
	testify   = "github.com/stretchr/testify"
	goleak    = "go.uber.org/goleak"
	miniredis = "github.com/alicebob/miniredis"
)

// Test code and everything below tests/ may import what it likes: the rules are for
// the rest. A name stands for a package and what lies below it; one that begins with
// "./" is relative to the module.
var importRules = []rule{
	{
		name:      "local knows no other layer",
		packages:  []string{"./local"},
		forbidden: []string{"./tiered", "./remote", "./pubsub"},
	},
	{
		name:      "remote knows no other layer",
		packages:  []string{"./remote"},
		forbidden: []string{"./tiered", "./local", "./pubsub"},
	},
	{
		name:      "pubsub knows no other layer",
		packages:  []string{"./pubsub"},
		forbidden: []string{"./tiered", "./local", "./remote"},
	},
	{
		name:      "internal knows no layer",
		packages:  []string{"./internal"},
		forbidden: []string{"./tiered", "./local", "./remote", "./pubsub"},
	},
	{
		name:      "only local imports Ristretto",
		except:    []string{"./local"},
		forbidden: []string{ristretto},
	},
	{
		name:      "production code links no test code",
		forbidden: []string{testify, goleak, "./tests"},
	},
	{
		name:      "only what is for users' tests links testing",
		except:    []string{"./tiered/tieredtest"},
		forbidden: []string{"testing"},
	},
	{
		name:      "only the demo command and what is for users' tests start miniredis",
		except:    []string{"./tiered/cmd/tandem", "./tiered/tieredtest"},
		forbidden: []string{miniredis},
	},
}

// linked are the modules that a program may link that imports only tiered.
var linked = []string{
	"github.com/cespare/xxhash/v2",
	"github.com/dgraph-io/ristretto/v2",
	"github.com/dustin/go-humanize",
	"github.com/fxamacker/cbor/v2",
	"github.com/redis/go-redis/v9",
	"github.com/x448/float16",
	"go.uber.org/atomic",
	"golang.org/x/sync",
	"golang.org/x/sys",
}

// topLevel is what the top of the repository may hold.
var topLevel = []string{
	".ci", ".gitignore", ".golangci.yml",
	"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md",
	"go.mod", "go.sum",
	"internal", "local", "pubsub", "remote", "tests", "tiered",
}

func TestImports(t *testing.T) {
	t.Parallel()
	repo := findRepository(t)
	pkgs := repo.packages(t)
	require.NotEmpty(t, pkgs)

	for _, r := range importRules {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			require.Empty(t, r.violations(repo.path, pkgs))
		})
	}
}

func TestLinkedModules(t *testing.T) {
	t.Parallel()
	repo := findRepository(t)
	core := repo.path + "/tiered"
	isCore := func(p goPackage) bool { return p.ImportPath == core }
	if !slices.ContainsFunc(repo.packages(t), isCore) {
		return // nothing to link yet
	}

	for _, p := range listPackages(t, repo.dir, "-deps", core) {
		if p.Module != nil && !p.Module.Main {
			require.Contains(t, linked, p.Module.Path, "every user's program links it, for %s", p.ImportPath)
		}
	}
}

func TestTopLevel(t *testing.T) {
	t.Parallel()
	repo := findRepository(t)
	for _, name := range repo.entries(t) {
		require.Contains(t, topLevel, name, "the top level of the repository is fixed")
	}
}
