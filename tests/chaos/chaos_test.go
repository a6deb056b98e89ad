//go:build linux

package chaos

import (
	"cmp"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/chaos/internal/arena"
	"github.com/tandemcache/tandem/tests/chaos/internal/design"
	"github.com/tandemcache/tandem/tests/redisserver"
)

// TestContractUnderFaults is the harness: with random faults for -duration, or with -runs of each fault alone.
func TestContractUnderFaults(t *testing.T) {
	redisserver.Need(t)
	seed := theSeed(t)
	if *runs > 0 || *table {
		everyFault(t, seed, max(*runs, 1))
		return
	}
	d := cmp.Or(*duration, 10*time.Second)
	if raceDetector && *duration == 0 {
		d = 4 * time.Second
	}
	var all rows
	for _, topology := range []arena.Topology{arena.Single, arena.WithSentinels} {
		faults := fitting(chosen(t), topology)
		if len(faults) == 0 || (topology == arena.WithSentinels && (*duration == 0 || *single)) {
			continue
		}
		out := both(t, func(t *testing.T, name string) outcome { return runMixed(t, name, topology, faults, seed, d) })
		requireContract(t, out[design.Tandem], seed)
		all.add(fmt.Sprintf("mixed, %v", topology), out)
	}
	if !raceDetector { // it is too slow for much to happen; TestTheControlIsSeenWithoutFaults waits for it
		requireSeeing(t, all.sum(design.Control))
	}
	t.Log("\n" + all.markdown())
}

// requireSeeing fails if the control seems to keep the contract: then the harness would not see who breaks it.
func requireSeeing(t *testing.T, control outcome) {
	t.Helper()
	require.Positive(t, control.C2+control.C3, "the harness is blind: the control has kept the contract")
}

func everyFault(t *testing.T, seed uint64, n int) {
	var rows rows
	for _, f := range chosen(t) {
		t.Run(f.Name, func(t *testing.T) {
			for i := range n {
				s := seed + uint64(i)
				out := both(t, func(t *testing.T, name string) outcome { return runAlone(t, name, f, s) })
				requireContract(t, out[design.Tandem], s)
				rows.add(f.Name, out)
			}
		})
	}
	requireSeeing(t, rows.sum(design.Control))
	if *table {
		fmt.Println(rows.markdown())
	}
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
	a := open(t, design.Stale, arena.Single, seed)
	require.Eventually(t, func() bool {
		r := a.Checker.Result()
		return r.C2 > 0 && r.C3 > 0
	}, time.Minute, 10*time.Millisecond)
	r, err := a.Finish()
	require.NoError(t, err)
	require.NotEmpty(t, r.Samples)
	t.Log(r.Samples[0])
}
