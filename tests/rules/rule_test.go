package rules_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// rule forbids some imports to some packages.
type rule struct {
	name      string
	packages  []string // whom it binds; none: every package
	except    []string // whom of them it does not bind
	forbidden []string
}

// violations returns a line for each import in pkgs that breaks the rule. module is
// what "./" stands for.
func (r rule) violations(module string, pkgs []goPackage) []string {
	within := func(path string, names []string) bool {
		for _, name := range names {
			if below, ok := strings.CutPrefix(name, "."); ok {
				name = module + below
			}
			if path == name || strings.HasPrefix(path, name+"/") {
				return true
			}
		}
		return false
	}
	var found []string
	for _, p := range pkgs {
		if within(p.ImportPath, []string{"./tests"}) || within(p.ImportPath, r.except) ||
			r.packages != nil && !within(p.ImportPath, r.packages) {
			continue
		}
		for _, path := range p.Imports {
			if within(path, r.forbidden) {
				found = append(found, fmt.Sprintf("%s imports %s", p.ImportPath, path))
			}
		}
	}
	return found
}

func TestRule_violations(t *testing.T) {
	t.Parallel()
	const m = "example.org/m"
	for name, tc := range map[string]struct {
		pkg     string
		imports []string
		want    []string
	}{
		"local takes remote":           {"/local", []string{m + "/remote"}, []string{m + "/local imports " + m + "/remote"}},
		"remote below takes local":     {"/remote/redis", []string{m + "/local"}, []string{m + "/remote/redis imports " + m + "/local"}},
		"pubsub takes tiered below":    {"/pubsub", []string{m + "/tiered/x"}, []string{m + "/pubsub imports " + m + "/tiered/x"}},
		"internal takes pubsub":        {"/internal/a", []string{m + "/pubsub"}, []string{m + "/internal/a imports " + m + "/pubsub"}},
		"tiered takes Ristretto":       {"/tiered", []string{ristretto + "/v2"}, []string{m + "/tiered imports " + ristretto + "/v2"}},
		"tiered takes testing":         {"/tiered", []string{"testing"}, []string{m + "/tiered imports testing"}},
		"remote takes testing/iotest":  {"/remote", []string{"testing/iotest"}, []string{m + "/remote imports testing/iotest"}},
		"local takes testify":          {"/local", []string{testify + "/require"}, []string{m + "/local imports " + testify + "/require"}},
		"pubsub takes goleak":          {"/pubsub", []string{goleak}, []string{m + "/pubsub imports " + goleak}},
		"tiered takes tests":           {"/tiered", []string{m + "/tests/a"}, []string{m + "/tiered imports " + m + "/tests/a"}},
		"tieredtest takes testify":     {"/tiered/tieredtest", []string{testify}, []string{m + "/tiered/tieredtest imports " + testify}},
		"tieredtest takes miniredis":   {"/tiered/tieredtest", []string{miniredis + "/v2", "testing"}, nil},
		"two at once":                  {"/local", []string{goleak, miniredis}, []string{m + "/local imports " + goleak, m + "/local imports " + miniredis}},
		"the demo takes miniredis":     {"/tiered/cmd/tandem", []string{miniredis + "/v2", "fmt"}, nil},
		"tiered takes the layers":      {"/tiered", []string{m + "/local", m + "/remote", m + "/pubsub", m + "/internal/a"}, nil},
		"local takes Ristretto":        {"/local", []string{ristretto + "/v2", m + "/internal/a", m + "/local/sub"}, nil},
		"tests take anything":          {"/tests/a", []string{"testing", ristretto, miniredis, goleak, m + "/local"}, nil},
		"names that only begin alike":  {"/local", []string{m + "/remotely", "testingx", m + "/testsuite"}, nil},
		"packages that begin alike":    {"/localize", []string{m + "/remote"}, nil},
		"another module's same folder": {"/local", []string{"example.org/other/remote"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, r := range importRules {
				got = append(got, r.violations(m, []goPackage{{ImportPath: m + tc.pkg, Imports: tc.imports}})...)
			}
			require.ElementsMatch(t, tc.want, got)
		})
	}
}
