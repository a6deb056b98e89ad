//go:build linux

package chaos

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/chaos/internal/arena"
	"github.com/tandemcache/tandem/tests/chaos/internal/design"
	"github.com/tandemcache/tandem/tests/chaos/internal/fault"
	"github.com/tandemcache/tandem/tests/redisserver"
)

// TestContractUnderFaults is the harness: with random faults for -duration, or with -runs of each fault alone.
func TestContractUnderFaults(t *testing.T) {
	redisserver.Need(t)
	seed := theSeed(t)
	var all rows
	if *runs > 0 || *table {
		onServers := slices.DeleteFunc(chosen(t), func(f fault.Fault) bool { return f.Needs == arena.WithCluster })
		everyFault(t, &all, onServers, seed)
		all.report(t)
		return
	}
	d := randomFor()
	for _, topology := range []arena.Topology{arena.Single, arena.WithSentinels} {
		faults := fitting(chosen(t), topology)
		if len(faults) == 0 || (topology == arena.WithSentinels && (*duration == 0 || *single)) {
			continue
		}
		out := both(t, func(t *testing.T, name string) outcome { return runMixed(t, name, topology, faults, seed, d) })
		requireContract(t, out[design.Tandem], seed)
		all.add(fmt.Sprintf("mixed, %v", topology), out)
	}
	requireSeeing(t, all.sum(design.Control))
	t.Log("\n" + all.markdown())
}

// randomFor returns -duration.
func randomFor() time.Duration {
	if raceDetector {
		return cmp.Or(*duration, 4*time.Second)
	}
	return cmp.Or(*duration, 10*time.Second)
}

// requireSeeing fails if the control seems to keep the contract: then the harness would not see who breaks it.
func requireSeeing(t *testing.T, control outcome) {
	t.Helper()
	switch {
	case raceDetector: // it is too slow for much to happen; TestTheControlIsSeenWithoutFaults waits for it
		return
	case t.Failed(): // the control may not have come to its end
		return
	}
	require.Positive(t, control.C2+control.C3, "the harness is blind: the control has kept the contract")
}

// everyFault runs each of these faults alone, -runs times, and adds what it has shown to all.
func everyFault(t *testing.T, all *rows, faults []fault.Fault, seed uint64) {
	for _, f := range faults {
		repeated(t, all, f.Name, seed, func(t *testing.T, name string, seed uint64) outcome { return runAlone(t, name, f, seed) })
	}
}

// repeated does one thing -runs times for both designs, each time with a seed of its own.
func repeated(t *testing.T, all *rows, what string, seed uint64, run func(t *testing.T, name string, seed uint64) outcome) {
	t.Run(what, func(t *testing.T) {
		for i := range max(*runs, 1) {
			s := seed + uint64(i)
			out := both(t, func(t *testing.T, name string) outcome { return run(t, name, s) })
			requireContract(t, out[design.Tandem], s)
			all.add(what, out)
		}
	})
}

// TestTheControlIsSeenWithoutFaults needs nothing but load: a load that began before an invalidation brings the old value.
func TestTheControlIsSeenWithoutFaults(t *testing.T) {
	t.Parallel()
	redisserver.Need(t)
	a := open(t, design.Control, arena.Single, theSeed(t))
	require.Eventually(t, func() bool { return a.Checker.Result().C2 > 0 }, time.Minute, 10*time.Millisecond)
	_, err := a.Finish()
	require.NoError(t, err)
}

// TestADefectIsSeen seeds a defect: an instance that returns the version before the right one, once in a thousand reads.
func TestADefectIsSeen(t *testing.T) {
	t.Parallel()
	redisserver.Need(t)
	seed := theSeed(t)
	for _, topology := range []arena.Topology{arena.Single, arena.WithCluster} {
		t.Run(topology.String(), func(t *testing.T) {
			a := open(t, design.Stale, topology, seed)
			require.Eventually(t, func() bool {
				r := a.Checker.Result()
				return r.C2 > 0 && r.C3 > 0
			}, time.Minute, 10*time.Millisecond)
			r, err := a.Finish()
			require.NoError(t, err)
			require.NotEmpty(t, r.Samples)
			t.Log(r.Samples[0])
		})
	}
}
