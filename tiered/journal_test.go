package tiered

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
)

func TestJournalForgetsWhatAHeartbeatHasSettled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := newJournal(1)
		require.True(t, j.add(j.begin(), []string{"a", "b"}))
		time.Sleep(1)
		sent := mono.Now()
		require.True(t, j.add(j.begin(), []string{"c"}), "confirmed in the moment when the heartbeat is sent")
		j.trim(sent)
		require.Equal(t, 1, j.keys)
		require.Equal(t, 1, j.bytes)
		keys, _, all := j.take()
		require.Equal(t, []string{"c"}, keys)
		require.False(t, all)
		keys, _, all = j.take()
		require.Empty(t, keys, "once")
		require.False(t, all)
	})
}

func TestJournalRefusesWhatWasConfirmedByAServerThatIsGone(t *testing.T) {
	t.Parallel()
	j := newJournal(1)
	moves := j.begin()
	j.take()
	require.False(t, j.add(moves, []string{"a"}))
	require.False(t, j.addAll(moves))
	keys, _, all := j.take()
	require.Empty(t, keys)
	require.False(t, all)
}

func TestJournalIsBounded(t *testing.T) {
	t.Parallel()
	for name, fill := range map[string]func(j *journal){
		"keys": func(j *journal) {
			for i := range maxPendingKeys + 1 {
				require.True(t, j.add(0, []string{fmt.Sprint(i)}))
			}
		},
		"bytes": func(j *journal) {
			for range maxPendingBytes>>10 + 1 {
				require.True(t, j.add(0, []string{strings.Repeat("x", 1<<10)}))
			}
		},
		"everything": func(j *journal) {
			require.True(t, j.add(0, []string{"a"}))
			require.True(t, j.addAll(0))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				j := newJournal(1)
				fill(j)
				require.Empty(t, j.records)
				require.Zero(t, j.keys)
				require.Zero(t, j.bytes)
				j.trim(mono.Now())
				require.True(t, j.add(0, []string{"later"}))
				keys, _, all := j.take()
				require.True(t, all)
				require.Equal(t, []string{"later"}, keys)
			})
		})
	}
}

func TestJournalForgetsEverythingAsWell(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := newJournal(1)
		require.True(t, j.addAll(0))
		time.Sleep(1)
		j.trim(mono.Now())
		_, _, all := j.take()
		require.False(t, all)
	})
}

func TestGateWaitsUntilAllCouldRepeatWhatAServerMayHaveLost(t *testing.T) {
	t.Parallel()
	const bound = 2 * time.Second
	synctest.Test(t, func(t *testing.T) {
		beat := func(g *gate, moved, kept bool) opening {
			b := goodBeat(mono.Now(), epochA)
			b.Moved, b.Kept = moved, kept
			g.report(b, nil)
			return g.look()
		}
		g := newGate(bound)
		require.True(t, beat(g, false, false).open)
		require.False(t, beat(g, true, true).open, "taken over")
		time.Sleep(bound - 1)
		o := beat(g, false, true)
		require.False(t, o.open)
		require.Nil(t, o.wait, "nobody waits for it")
		time.Sleep(1)
		require.True(t, beat(g, false, true).open)

		require.False(t, beat(g, true, true).open, "again")
		time.Sleep(bound - 1)
		b := goodBeat(mono.Now(), epochA)
		time.Sleep(1)
		g.report(b, nil)
		require.False(t, g.look().open, "a heartbeat sent before does not know what another instance has found since")
		require.True(t, beat(g, true, false).open, "of a new epoch nothing is old")

		require.False(t, beat(newGate(bound), false, true).open, "an instance that is new is in the others' grace")
		g = newGate(bound)
		b = goodBeat(mono.Now(), epochA)
		b.Kept, b.KeptFor = true, 2*bound
		g.report(b, nil)
		require.True(t, g.look().open, "but not for ever")
	})
}
