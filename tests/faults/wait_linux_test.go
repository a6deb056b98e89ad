package faults

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/confirm"
	"github.com/tandemcache/tandem/tiered"
)

// An instance in a process of its own is stopped, with its message waiting or lost, or dies. The reads of its own clock say
// what it served.
func TestInvalidateAndWaitWithAStoppedProcess(t *testing.T) {
	srv := startRedis(t)
	raw := client(t, srv.Addr())
	require.NoError(t, raw.Set(soon(t), sourceKey, 1, 0).Err())
	writer, err := tiered.New(client(t, srv.Addr()), cacheName, tiered.Options[value]{
		Load: loadFrom(raw), MaxStaleness: pausedBound, Acknowledge: true,
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, writer.Close()) }()
	require.NoError(t, writer.Ready(soon(t)))
	process, streaks := startChild(t, srv.Addr(), acknowledgeEnv+"=1")
	require.Zero(t, next(t, streaks).version, "before its first read")

	revoke := func() (took time.Duration, returned int64) {
		t.Helper()
		require.NoError(t, raw.Incr(soon(t), sourceKey).Err())
		took = confirm.Within(t, patience, func() error { return writer.InvalidateAndWait(soon(t), pausedKey) })
		return took, monotonic()
	}
	bothAcknowledge := func() {
		t.Helper()
		settled(t, raw, 2, func() time.Duration {
			took, returned := revoke()
			require.Less(t, next(t, streaks).last, returned, "not one old read after it has returned")
			return took
		})
	}
	bothAcknowledge()
	for round, pause := range []time.Duration{0, 0, 300 * time.Millisecond} {
		time.Sleep(100 * time.Millisecond) // some reads, from L1
		freeze(t, process)
		lost := round%2 == 1
		if lost {
			require.NoError(t, raw.ClientKillByFilter(soon(t), "TYPE", "pubsub").Err())
			eventually(t, "the writer is back", func() bool { return writer.Health().LocalTrusted })
		}
		took, returned := revoke()
		require.GreaterOrEqual(t, took, pausedBound)
		time.Sleep(pause)
		resumed := monotonic()
		require.NoError(t, process.Signal(syscall.SIGCONT))
		old := next(t, streaks)
		require.Less(t, old.last, returned)
		require.Less(t, old.last, resumed, "not the first read after the pause either")
		t.Logf("stopped (message lost: %v): returned after %v; the last of %d reads of the old version started %v before that",
			lost, took.Round(time.Microsecond), old.reads, round2(returned-old.last))
		bothAcknowledge()
	}
	require.NoError(t, process.Kill())
	ended(t, streaks)
	var took []time.Duration
	for range 4 {
		one, _ := revoke()
		took = append(took, one.Round(time.Microsecond))
	}
	t.Logf("after it was killed: %v", took)
	require.GreaterOrEqual(t, took[0], pausedBound)
	eventually(t, "not for ever", func() bool {
		again, _ := revoke()
		return again < pausedBound/2
	})
}
