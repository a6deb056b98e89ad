//go:build linux

package scale

import (
	"errors"
	"flag"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/scale/internal/sizing"
)

// loadUnits returns what -units holds so far.
func loadUnits(t *testing.T) sizing.Units {
	t.Helper()
	if *unitsFile == "" {
		return sizing.Units{}
	}
	u, err := sizing.Load(*unitsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return sizing.Units{}
	}
	require.NoError(t, err)
	return u
}

// saveUnits writes them there, with how this test was called.
func saveUnits(t *testing.T, u sizing.Units) {
	t.Helper()
	if *unitsFile == "" {
		return
	}
	u.From = slices.DeleteFunc(u.From, func(one string) bool { return strings.HasPrefix(one, t.Name()+" ") })
	called := t.Name() + " "
	flag.Visit(func(f *flag.Flag) {
		if !strings.HasPrefix(f.Name, "test.") && f.Name != "units" {
			called += "-" + f.Name + " " + f.Value.String() + " "
		}
	})
	u.From = append(u.From, strings.TrimSpace(called))
	require.NoError(t, u.Save(*unitsFile))
}
