package demo

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

func TestAPollerThatStoodStillSaysNothingOfThePromise(t *testing.T) {
	t.Parallel()
	const bound = 2 * time.Second
	began := time.Now()
	at := began.Add
	for name, c := range map[string]struct {
		lookups
		broken bool
	}{
		"it stood still before the old value was gone": {lookups{old: at(time.Second), gone: at(9 * time.Second)}, false},
		"within the bound":                      {lookups{old: at(bound), gone: at(bound + 1)}, false},
		"beyond it":                             {lookups{old: at(bound + 1), gone: at(bound + 2)}, true},
		"the old value was gone from the start": {lookups{gone: at(-time.Second)}, false},
		"it never was":                          {lookups{old: at(time.Second)}, true},
	} {
		require.Equal(t, c.broken, c.broke(began, bound), name)
	}
}
