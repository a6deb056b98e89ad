package model

import (
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/leak"
)

var (
	full  = flag.Bool("model.full", false, "explore the larger configurations, too (minutes, and some GB of memory)")
	table = flag.Bool("model.table", false, "print what the tests find as the tables of README.md")
)

// limit is a bound of memory: no configuration comes near it but some of the larger ones.
const limit = 60_000_000

func TestMain(m *testing.M) { leak.Main(m) }

func TestTheProtocolHolds(t *testing.T) {
	var reached [situations]uint64
	configs := Quick()
	if *full {
		configs = append(configs, Full()...)
	}
	for _, c := range configs {
		t.Run(c.Name, func(t *testing.T) {
			if raceEnabled && !underRace[c.Name] {
				t.Skip("slow under the race detector, which has nothing to find in one goroutine")
			}
			m := New(c, &reached)
			r := m.Explore(limit)
			t.Log(r)
			require.Empty(t, r.Violation, "counterexample: %s", m.Line(r))
			require.True(t, r.Complete, "more states than the limit")
			if *table {
				fmt.Printf("| %s | %s | %d | %d |\n", c.Name, c.bounds(), r.States, r.Depth)
			}
		})
	}
	if raceEnabled || t.Failed() {
		return
	}
	for x, n := range reached {
		assert.Positive(t, n, "never reached: %s", situationNames[x])
	}
}

func TestEveryMutationIsCaught(t *testing.T) {
	for _, c := range caught {
		t.Run(c.without.String(), func(t *testing.T) {
			if raceEnabled && !underRace[c.config] {
				t.Skip("slow under the race detector, which has nothing to find in one goroutine")
			}
			m := c.model()
			r := m.Explore(limit)
			require.NotEmpty(t, r.Violation, "no counterexample in %q without %s: %s", c.config, c.without, r)
			t.Logf("%d states: %s", r.States, m.Line(r))
			if *table {
				fmt.Printf("| %s | %s | %d | %s |\n", c.without, c.config, len(r.Trace), m.Line(r))
			}
		})
	}
}

// A mechanism that is here may be taken out of production code, as far as the contract is concerned. Should a change of the
// protocol make one of them necessary, this test says so.
func TestRedundantMechanismsAreRedundant(t *testing.T) {
	for _, c := range redundant {
		t.Run(c.without.String()+" in "+c.config, func(t *testing.T) {
			if raceEnabled && !underRace[c.config] {
				t.Skip("slow under the race detector, which has nothing to find in one goroutine")
			}
			m := c.model()
			r := m.Explore(limit)
			require.Empty(t, r.Violation, "counterexample: %s", m.Line(r))
			require.True(t, r.Complete)
			t.Log(r)
		})
	}
}

func TestEveryMutationIsTried(t *testing.T) {
	t.Parallel()
	tried := mutations(0)
	for _, c := range append(caught, redundant...) {
		tried |= c.without
	}
	for x := mutations(1); x < lastMutation; x <<= 1 {
		assert.True(t, tried.has(x), "%s is in no check", x)
	}
	require.Equal(t, lastMutation, mutations(1)<<len(mutationNames), "mutationNames has other names than there are constants")
}

// A trace is only worth reading if it can be followed: made step by step, it ends where the explorer says.
func TestATraceCanBeReplayed(t *testing.T) {
	t.Parallel()
	m := check{without: TokenInFill, config: "leases"}.model()
	r := m.Explore(limit)
	require.NotEmpty(t, r.Violation)
	s := m.initial()
	for _, st := range r.Trace {
		require.True(t, m.apply(&s, st), m.describe(st))
		m.normalize(&s)
	}
	m.check(&s)
	require.Equal(t, r.Violation, m.violated)
}

// bounds says in short what may happen in a configuration.
func (c Config) bounds() string {
	var words []string
	add := func(n uint8, what string) {
		if n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, what))
		}
	}
	words = append(words, fmt.Sprintf("%d instances (%s read)", c.Instances, c.Readers))
	for _, w := range c.Writes {
		words = append(words, instanceName(w.By)+"."+[...]string{"Invalidate", "Set", "InvalidateAll"}[w.Kind])
	}
	words = append(words, fmt.Sprintf("bound %d", c.MaxStaleness))
	add(c.Ticks, "ticks")
	add(c.Starts, "flights")
	add(c.Refreshes, "refreshes")
	add(c.Deaths, "subscription deaths")
	add(c.Crashes, "crashes")
	add(c.Failovers, "failovers")
	add(c.Evictions, "evictions")
	add(c.Leases, "lease expiries")
	add(c.Trips, "timeouts")
	return strings.Join(words, ", ")
}
