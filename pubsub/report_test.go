package pubsub

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSentBeatsRememberTheLast(t *testing.T) {
	t.Parallel()
	var s sentBeats
	_, ok := s.find("")
	require.False(t, ok, "an empty token is no token")
	for i := range 20 {
		s.add(numbered(20, 2)[i], int64(i))
	}
	for i, token := range numbered(20, 2) {
		at, ok := s.find(token)
		require.Equal(t, i >= 20-len(s.last), ok)
		if ok {
			require.EqualValues(t, i, at)
		}
	}
}

func TestParseBeat(t *testing.T) {
	t.Parallel()
	const v, w = randomVersion + ":id=-4", otherVersion + ":id+3"
	good := []any{int64(5), "id", int64(7), "run", int64(1), v, w}
	reply, err := parseBeat(good, 2)
	require.NoError(t, err)
	require.Equal(t, beatReply{
		now: 5, server: origin{id: "id", offset: 7, run: "run"}, same: true, stored: []string{v, w},
		versions: []version{{randomVersion, 9 * time.Millisecond}, {otherVersion, -1}},
	}, reply)
	_, err = parseBeat(append(slices.Clone(good), "x"), 2)
	require.Error(t, err)
	for _, unreadable := range []string{"", "v", randomVersion, randomVersion + ":id", "short:id+1"} {
		_, err := parseBeat([]any{int64(5), "id", int64(7), "run", int64(1), unreadable}, 1)
		require.Error(t, err, unreadable)
	}
	for i := range good {
		_, err := parseBeat(good[:i], 2)
		require.Error(t, err, "cut off at %d", i)
		for _, other := range []any{nil, 5, []byte("v")} {
			bad := slices.Clone(good)
			bad[i] = other
			_, err = parseBeat(bad, 2)
			require.Error(t, err, "%T as value %d", other, i)
		}
	}
}

func TestReportsOfFailedHeartbeatsSayWhy(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		h, _ := r.begun("a", bound)
		r.wire.muteAll()
		n := len(h.reports())
		r.bus.Kick()
		took := r.within(allowed, "a report", func() bool { return len(h.reports()) > n })
		b := h.reports()[n]
		require.True(t, errors.Is(b.Err, os.ErrDeadlineExceeded) || errors.Is(b.Err, context.DeadlineExceeded), b.Err)
		require.LessOrEqual(t, took, allowed+time.Millisecond) // within looks each millisecond
		require.GreaterOrEqual(t, took, allowed*8/10)
		require.Equal(t, b.Sent+int64(allowed), b.Received)
	})
}
