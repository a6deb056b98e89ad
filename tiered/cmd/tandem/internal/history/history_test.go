package history

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const ms = time.Millisecond

func (k *Key) add(a ack) { k.insert(a.version, a.writer, func() time.Duration { return a.at }) }

func TestJudge(t *testing.T) {
	t.Parallel()
	// Instance 0 wrote version 2 at 100 ms and 4 at 300 ms, instance 1 wrote 3 at 200 ms.
	acks := []ack{{2, 0, 100 * ms}, {3, 1, 200 * ms}, {4, 0, 300 * ms}}
	for name, c := range map[string]struct {
		read Read
		want Verdict
	}{
		"before any write":                        {Read{2, 1, 50 * ms}, Verdict{}},
		"the moment of the acknowledgement":       {Read{2, 1, 100 * ms}, Verdict{}},
		"a nanosecond after it":                   {Read{2, 1, 100*ms + 1}, Verdict{Lag: 1}},
		"the newest":                              {Read{2, 4, time.Hour}, Verdict{}},
		"newer than anything acknowledged":        {Read{2, 5, time.Hour}, Verdict{}},
		"lag counts from the first newer version": {Read{2, 1, 310 * ms}, Verdict{Lag: 210 * ms}},
		"lag of a version in between":             {Read{2, 3, 310 * ms}, Verdict{Lag: 10 * ms}},
		"later writes do not count yet":           {Read{2, 1, 150 * ms}, Verdict{Lag: 50 * ms}},
		"own write":                               {Read{0, 1, 150 * ms}, Verdict{Lag: 50 * ms, Own: true}},
		"own write among others":                  {Read{1, 1, 250 * ms}, Verdict{Lag: 150 * ms, Own: true}},
		"own write that is not newer":             {Read{1, 3, 310 * ms}, Verdict{Lag: 10 * ms}},
		"own write that had not returned":         {Read{1, 2, 200 * ms}, Verdict{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var k Key
			for _, a := range acks {
				k.add(a)
			}
			require.Equal(t, c.want, k.Judge(c.read))
		})
	}
}

func TestOrderOfAcknowledgementsDoesNotMatter(t *testing.T) {
	t.Parallel()
	var k Key
	k.add(ack{4, 0, 100 * ms})
	k.add(ack{2, 1, 300 * ms})
	k.add(ack{3, 2, 200 * ms})
	require.Equal(t, Verdict{Lag: 300 * ms, Own: true}, k.Judge(Read{Instance: 1, Version: 1, Start: 400 * ms}))
	require.Equal(t, Verdict{Lag: 300 * ms}, k.Judge(Read{Instance: 1, Version: 2, Start: 400 * ms}))
	require.Zero(t, k.Judge(Read{Instance: 1, Version: 4, Start: 400 * ms}))
}

func TestTallyReportsViolations(t *testing.T) {
	t.Parallel()
	var k Key
	k.add(ack{2, 0, 100 * ms})

	tally := Tally{Bound: 50 * ms}
	tally.Add(&k, "user:1", Read{Instance: 1, Version: 1, Start: 150 * ms}) // to the bound is allowed
	tally.Add(&k, "user:1", Read{Instance: 1, Version: 2, Start: time.Hour})
	require.NoError(t, tally.Err())
	require.Equal(t, Tally{Bound: 50 * ms, Reads: 2, Lagging: 1, Longest: 50 * ms}, tally)

	late := Tally{Bound: 50 * ms}
	late.Add(&k, "user:1", Read{Instance: 1, Version: 1, Start: 150*ms + 1})
	require.EqualValues(t, 1, late.Late)
	require.ErrorContains(t, late.Err(), "stale for longer than MaxStaleness (50ms)")
	require.ErrorContains(t, late.Err(), "instance 2 read user:1 in version 1 50.000001ms after")

	own := Tally{Bound: 50 * ms}
	own.Add(&k, "user:1", Read{Instance: 0, Version: 1, Start: 101 * ms})
	require.EqualValues(t, 1, own.Own)
	require.ErrorContains(t, own.Err(), "older than a write that had returned on the same instance")

	wrong := Tally{Bound: 50 * ms}
	wrong.AddWrong(errors.New("user:1: this is user:2"))
	require.ErrorContains(t, wrong.Err(), "this is user:2")

	tally.Merge(late)
	tally.Merge(own)
	tally.Merge(wrong)
	tally.Merge(wrong)
	require.EqualValues(t, 6, tally.Reads)
	require.Len(t, tally.Examples, 3)
	require.ErrorContains(t, tally.Err(), "MaxStaleness")
}

// A register whose readers take an atomic load cannot be stale; one whose readers look at a copy is, and must be caught.
func TestConcurrentWritersAndReaders(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		publishAt func(version uint64) bool
		stale     bool
	}{
		"a register that is right":         {func(uint64) bool { return true }, false},
		"one that forgets every other one": {func(v uint64) bool { return v%2 == 0 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var k Key
			var register atomic.Uint64
			var writer, readers sync.WaitGroup
			done := make(chan struct{})
			writer.Go(func() {
				defer close(done)
				for v := uint64(1); v <= 2001; v++ {
					if c.publishAt(v) {
						register.Store(v)
					}
					k.Acknowledge(v, 0)
				}
			})
			tallies := make([]Tally, 3)
			for i := range tallies {
				readers.Go(func() {
					for over := false; !over; {
						select {
						case <-done:
							over = true // and one last read
						default:
						}
						start := Now()
						tallies[i].Add(&k, "k", Read{Instance: i, Version: register.Load(), Start: start})
					}
				})
			}
			writer.Wait()
			readers.Wait()
			var sum Tally
			for _, tally := range tallies {
				sum.Merge(tally)
			}
			require.Equal(t, c.stale, sum.Err() != nil, "%+v", sum)
			if c.stale {
				require.NotZero(t, tallies[0].Own)
				require.NotZero(t, tallies[1].Late)
			}
		})
	}
}
