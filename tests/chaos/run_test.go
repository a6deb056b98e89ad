//go:build linux

package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/chaos/internal/arena"
	"github.com/tandemcache/tandem/tests/chaos/internal/clock"
	"github.com/tandemcache/tandem/tests/chaos/internal/design"
	"github.com/tandemcache/tandem/tests/chaos/internal/fault"
	"github.com/tandemcache/tandem/tests/chaos/internal/history"
	"github.com/tandemcache/tandem/tests/chaos/internal/worker"
)

const (
	warmUp    = 700 * time.Millisecond // before the first fault: every key is in L1 somewhere
	afterHeal = 1500 * time.Millisecond
)

// outcome is what one run has shown.
type outcome struct {
	history.Result
	trust  time.Duration // until L1 was trusted again
	felt   worker.Felt
	events []arena.Event
}

func open(t *testing.T, name string, topology arena.Topology, seed uint64) *arena.Arena {
	t.Helper()
	o := arena.Options{
		Design: name, Topology: topology, Seed: seed, MaxStaleness: *staleness,
		Keys: 512, Here: 2, Own: 2, ReadRate: 2500, WriteRate: 40,
	}
	switch {
	case raceDetector && topology == arena.WithCluster: // an invalidation by tag is a message for each partition
		o.Here, o.Own, o.ReadRate, o.WriteRate = 1, 1, 300, 10
	case raceDetector:
		o.ReadRate = 600
	}
	a, err := arena.New(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a
}

// finish ends a run. The time until L1 was trusted again counts from since.
func finish(t *testing.T, a *arena.Arena, since int64, before worker.Felt) outcome {
	t.Helper()
	errTrust := a.AwaitTrust()
	time.Sleep(afterHeal)
	out := outcome{trust: a.Regained(since)}
	felt := a.Felt()
	out.felt = worker.Felt{Sessions: felt.Sessions - before.Sessions, Errors: felt.Errors - before.Errors}
	var err error
	out.Result, err = a.Finish()
	out.events = a.Events()
	require.NoError(t, errors.Join(errTrust, err))
	return out
}

// runAlone runs one fault once.
func runAlone(t *testing.T, name string, f fault.Fault, seed uint64) outcome {
	t.Helper()
	a := open(t, name, f.Needs, seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	time.Sleep(warmUp)
	before := a.Felt()
	a.Notef("%s: start", f.Name)
	moments := map[fault.Moment]int64{fault.Started: clock.Now()}
	heal, err := f.Start(t.Context(), a, rng)
	require.NoError(t, err, f.Name)
	span := f.Span
	if span == 0 {
		span = *staleness + 1200*time.Millisecond
	}
	time.Sleep(span)
	a.Notef("%s: heal", f.Name)
	moments[fault.Mending] = clock.Now()
	require.NoError(t, heal(), f.Name)
	moments[fault.Healed] = clock.Now()
	a.Notef("%s: healed", f.Name)
	return finish(t, a, moments[f.Since], before)
}

// running is a fault that is not mended yet.
type running struct {
	fault.Fault
	heal  func() error
	until time.Time
}

// clashes reports whether f must wait for one that is active.
func clashes(f fault.Fault, active map[fault.Class]running) bool {
	for _, r := range active {
		if f.Clashes(r.Fault) {
			return true
		}
	}
	return false
}

// runMixed starts random faults and mends them, several at a time, for d.
func runMixed(t *testing.T, name string, topology arena.Topology, faults []fault.Fault, seed uint64, d time.Duration) outcome {
	t.Helper()
	a := open(t, name, topology, seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	time.Sleep(warmUp)
	before := a.Felt()
	active := map[fault.Class]running{}
	mend := func(due func(running) bool) {
		for class, r := range active {
			if !due(r) {
				continue
			}
			delete(active, class)
			a.Notef("%s: heal", r.Name)
			if err := r.heal(); err != nil && !errors.Is(err, fault.ErrIdle) {
				require.NoError(t, err, "%s, seed %d\n%s%s", r.Name, seed, around(a.Events(), clock.Now()), a.Said())
			}
			a.Notef("%s: healed", r.Name)
		}
	}
	defer mend(func(running) bool { return true }) // only where the test has failed
	var failing time.Time                          // since when no fault can be started though none is under way
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Duration(rng.IntN(600)) * time.Millisecond) {
		mend(func(r running) bool { return time.Now().After(r.until) })
		f := faults[rng.IntN(len(faults))]
		hold := max(f.Span, time.Duration(rng.Int64N(int64(2**staleness))))
		if clashes(f, active) {
			continue
		}
		a.Notef("%s: start", f.Name)
		heal, err := f.Start(t.Context(), a, rand.New(rand.NewPCG(rng.Uint64(), 0)))
		if err != nil {
			// What it needs another fault has broken; or has broken until a moment ago, which may be felt for longer: a client
			// repeats the error of its last dial for a second.
			if failing.IsZero() || len(active) > 0 {
				failing = time.Now()
			}
			require.Less(t, time.Since(failing), 10*time.Second, "%s, seed %d: %v", f.Name, seed, err)
			a.Notef("%s: not now: %v", f.Name, err)
			if heal != nil {
				_ = heal() // of what it has broken all the same
			}
			continue
		}
		failing = time.Time{}
		active[f.Class] = running{Fault: f, heal: heal, until: time.Now().Add(hold)}
	}
	mend(func(running) bool { return true })
	return finish(t, a, clock.Now(), before)
}

// chosen returns the faults of -faults.
func chosen(t *testing.T) []fault.Fault {
	t.Helper()
	all := fault.All()
	if *only == "" {
		return slices.DeleteFunc(all, func(f fault.Fault) bool { return f.Gap != "" })
	}
	var out []fault.Fault
	for name := range strings.SplitSeq(*only, ",") {
		i := slices.IndexFunc(all, func(f fault.Fault) bool { return f.Name == name })
		require.GreaterOrEqual(t, i, 0, "there is no fault %q", name)
		out = append(out, all[i])
	}
	return out
}

// only those that can be done to this topology, and will be.
func fitting(faults []fault.Fault, topology arena.Topology) []fault.Fault {
	var out []fault.Fault
	for _, f := range faults {
		if f.Fits(topology) {
			f.Needs = topology
			out = append(out, f)
		}
	}
	return out
}

// requireContract fails for a run in which a read was wrong, with the story, or a write was neither done nor left pending.
func requireContract(t *testing.T, o outcome, seed uint64) {
	t.Helper()
	if o.C2+o.C3+o.Unreal+o.Failed+o.Refused == 0 {
		return
	}
	t.Errorf("-seed %d: %d violations of C2, %d of C3, %d versions that never were, %d failed reads %v (of %d), %d writes neither done nor pending",
		seed, o.C2, o.C3, o.Unreal, o.Failed, o.Errors, o.Reads, o.Refused)
	for _, v := range o.Samples {
		t.Errorf("%v\n%s", v, around(o.events, v.Read.Start))
	}
}

// around returns what was done in the seconds around a moment.
func around(events []arena.Event, at int64) string {
	var s strings.Builder
	for _, e := range events {
		if d := time.Duration(e.At - at); d.Abs() < 20*time.Second {
			fmt.Fprintf(&s, "\t%+.3f ms: %s\n", float64(d)/1e6, e.What)
		}
	}
	return s.String()
}

var designs = []string{design.Tandem, design.Control}

// both runs f for both designs side by side, each in an arena of its own.
func both(t *testing.T, f func(t *testing.T, name string) outcome) map[string]outcome {
	t.Helper()
	out := make([]outcome, len(designs))
	t.Run("", func(t *testing.T) {
		for i, name := range designs {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				out[i] = f(t, name)
				t.Logf("%s: %s", name, out[i])
			})
		}
	})
	return map[string]outcome{designs[0]: out[0], designs[1]: out[1]}
}

func (o outcome) String() string {
	return fmt.Sprintf("%d reads, %d acknowledged, %d pending (%d settled), %d refused, C2 %d, C3 %d, worst %v, failed %d, trust after %v, felt %+v",
		o.Reads, o.Acked, o.Pending, o.Settled, o.Refused, o.C2, o.C3, o.Worst.Round(time.Millisecond), o.Failed,
		o.trust.Round(time.Millisecond), o.felt)
}
