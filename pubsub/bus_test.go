package pubsub

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/tests/port"
)

func TestTheFirstMemberBeginsAndThenHasProof(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	require.Zero(t, r.bus.Sessions())
	before := mono.Now()
	h, _ := r.join("a", lasting)
	eventually(t, "a proof", h.proven)
	eventually(t, "a report", func() bool { return len(h.reports()) > 0 })
	reports, proofs := h.reports(), h.of("prove")
	after := mono.Now()
	require.Equal(t, "begin prove", h.story())
	require.EqualValues(t, 1, r.bus.Sessions())

	version, err := r.mini.Get("version-of-a")
	require.NoError(t, err)
	require.Regexp(t, `^[0-9a-f]{16}:\+[0-9]+$`, version, "a miniredis does not tell its replication id")
	require.Equal(t, time.Hour, r.mini.TTL("version-of-a"))
	for _, b := range reports {
		require.NoError(t, b.Err)
		require.Equal(t, version[:16], b.Version)
		require.LessOrEqual(t, before, b.Sent)
		require.LessOrEqual(t, b.Sent, b.Received)
		require.LessOrEqual(t, b.Received, after)
		require.InDelta(t, time.Now().UnixMilli(), b.RedisNow, float64(patience.Milliseconds()))
	}
	for _, e := range proofs {
		require.LessOrEqual(t, before, e.at)
		require.LessOrEqual(t, e.at, after)
	}
	require.Empty(t, r.mini.Keys()[1:], "the heartbeat leaves nothing but the version")
}

func TestNothingConnectsBeforeTheFirstMemberJoins(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.bus.Kick()
	require.Regexp(t, "^[0-9a-f]{16}$", r.bus.ID())
	require.Equal(t, "tandem:inst:"+r.bus.ID()+":0", r.bus.Inbox())
	other := New(r.client, Options{DB: 3})
	require.NotEqual(t, r.bus.ID(), other.ID())
	require.True(t, strings.HasSuffix(other.Inbox(), ":3"))
	require.Zero(t, r.wire.dialled.Load())
	other.Close()
}

func TestJoinRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, bound := range []time.Duration{0, -1, -time.Second} {
		leave, err := r.bus.Join(topic("a", bound, r.recorder()))
		require.ErrorContains(t, err, "must be positive")
		require.Nil(t, leave)
	}
	require.Zero(t, r.wire.dialled.Load())
	r.bus.Close()
	leave, err := r.bus.Join(topic("a", lasting, r.recorder()))
	require.ErrorIs(t, err, ErrClosed)
	require.Nil(t, leave)
}

func TestALostConnectionEndsTheSessionAndBeginsAnother(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, _ := r.joined("a", lasting)
	b, _ := r.joined("b", lasting)
	r.publish("a", inv("before"))
	eventually(t, "a message", func() bool { return a.count("message") == 1 })

	// Redis is not to be reached for a while, in which messages are lost.
	var allowed atomic.Bool
	on := func(context.Context) error {
		if allowed.Load() {
			return nil
		}
		return errRefused
	}
	r.wire.onDial.Store(&on)
	r.wire.subscription().kill()
	eventually(t, "the end", func() bool { return a.count("end") == 1 && b.count("end") == 1 })
	r.publish("a", inv("in between"))
	require.Error(t, a.of("end")[0].err)
	require.NotErrorIs(t, a.of("end")[0].err, ErrClosed)
	allowed.Store(true)
	eventually(t, "proofs", func() bool { return a.proven() && b.proven() })
	r.publish("a", inv("after"))
	eventually(t, "a message", func() bool { return a.count("message") == 2 })
	require.Equal(t, []string{"before", "after"}, a.keys())
	require.Equal(t, "begin inv(before) end begin inv(after)", a.plot())
	require.EqualValues(t, 2, r.bus.Sessions())
	require.Len(t, r.wire.subscriptions(), 2, "on a connection of its own")
	a.checkProofs()
	b.checkProofs()
}

func TestManyLostConnections(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, _ := r.joined("a", lasting)
	for i := range 6 {
		r.wire.subscription().kill()
		eventually(t, "the end", func() bool { return a.count("end") == i+1 })
		eventually(t, "a proof", a.proven)
		r.publish("a", inv(fmt.Sprint(i)))
		eventually(t, "a message", func() bool { return a.count("message") == i+1 })
	}
	require.EqualValues(t, 7, r.bus.Sessions())
	a.checkProofs()
}

func TestAServerThatRestarts(t *testing.T) {
	t.Parallel()
	r := newRigThatRestarts(t)
	a, _ := r.joined("a", lasting)
	b, _ := r.joined("b", lasting)
	for i := 1; i <= 3; i++ {
		r.mini.Close()
		eventually(t, "the end", func() bool { return a.count("end") == i && b.count("end") == i })
		require.NoError(t, port.Use(r.mini.Restart))
		eventually(t, "proofs", func() bool {
			r.bus.Kick()
			return a.proven() && b.proven()
		})
		r.publish("a", inv(fmt.Sprint(i)))
		eventually(t, "a message", func() bool { return a.count("message") == i })
	}
	a.checkProofs()
	b.checkProofs()
}

func TestAServerThatIsDownAtFirst(t *testing.T) {
	t.Parallel()
	r := newRigThatRestarts(t)
	r.mini.Close()
	h, _ := r.join("a", lasting)
	eventually(t, "failed heartbeats", func() bool { return len(h.reports()) >= 3 })
	for _, b := range h.reports() {
		require.Error(t, b.Err)
		require.Zero(t, b.RedisNow)
		require.Empty(t, b.Version)
		require.NotZero(t, b.Sent)
	}
	require.Empty(t, h.all())
	require.Zero(t, r.bus.Sessions())
	require.NoError(t, port.Use(r.mini.Restart))
	eventually(t, "a proof", h.proven)
	require.Equal(t, "begin prove", h.story())
}

func TestCloseTellsTheMembers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, leaveA := r.joined("a", lasting)
	b, _ := r.joined("b", lasting)
	gone, leave := r.joined("b", lasting)
	leave()
	heard := len(gone.all())
	r.bus.Close()
	for _, h := range []*recorder{a, b} {
		require.Equal(t, "begin prove end", h.story())
		require.ErrorIs(t, h.of("end")[0].err, ErrClosed)
		h.checkProofs()
	}
	require.Len(t, gone.all(), heard)

	n, m := len(a.all()), len(a.reports())
	r.bus.Close() // twice is once
	r.bus.Stop()
	r.bus.Kick()
	leaveA()
	require.Len(t, a.all(), n)
	require.Len(t, a.reports(), m)
	require.NoError(t, r.client.Ping(t.Context()).Err(), "the client stays its owner's")
}

func TestConcurrentCloses(t *testing.T) {
	t.Parallel()
	for range 10 {
		r := newRig(t)
		h, leave := r.join("a", lasting)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(r.bus.Close)
		}
		wg.Go(leave)
		wg.Go(r.bus.Kick)
		wg.Wait()
		require.LessOrEqual(t, h.count("end"), 1)
	}
}

func TestCloseWithoutMembers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.bus.Close()
	r.bus.Close()
	require.Zero(t, r.wire.dialled.Load())
}
