package pubsub

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/tests/redisserver"
)

// reader notes whether it might read on a new connection at once, whenever it is told of a heartbeat.
type reader struct {
	*recorder
	server func(node string) (id string, known bool)
	may    []bool // guarded by the recorder's mu
}

func (r *reader) Beat(b BeatReport) {
	_, known := r.server(b.Node)
	r.mu.Lock()
	r.may = append(r.may, known)
	r.mu.Unlock()
	r.recorder.Beat(b)
}

// might waits for a heartbeat that succeeded and that fits, and reports whether it might read then.
func (r *reader) might(fits func(BeatReport) bool) (may bool) {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		i := slices.IndexFunc(r.beats, func(b BeatReport) bool { return b.Err == nil && fits(b) })
		may = i >= 0 && r.may[i]
		return i >= 0
	}, clusterPatience, time.Millisecond)
	return may
}

// requireMay is about the first heartbeat that succeeds and was sent after that time.
func (r *reader) requireMay(after int64) {
	r.t.Helper()
	require.True(r.t, r.might(func(b BeatReport) bool { return b.Sent > after && !b.Moved }), "L2 is open, and the next Get reads it")
}

func (r *reader) requireMayNot() {
	r.t.Helper()
	require.False(r.t, r.might(func(b BeatReport) bool { return b.Moved }),
		"a Get that believes the heartbeat before cannot know of the new server yet")
}

// Whoever is told of the first heartbeat, or of the first after some that failed, may read at once. Whoever is told that the server is another one learns that before
// anybody may read there.
func TestWhoIsToldMayRead(t *testing.T) {
	t.Parallel()
	t.Run("single", func(t *testing.T) {
		t.Parallel()
		r, srv, _ := newRigOnServer(t, redisserver.Options{})
		h := &reader{recorder: r.recorder(), server: func(string) (string, bool) { return r.bus.Server() }}
		_, err := r.bus.Join(topic("a", lasting, h))
		require.NoError(t, err)
		h.requireMay(mono.Never)

		refuse := func(context.Context) error { return errRefused }
		r.wire.onDial.Store(&refuse)
		r.client.Reset()
		eventually(t, "a heartbeat that fails", func() bool {
			r.bus.Kick()
			return h.latest().Err != nil
		})
		failed := h.latest().Sent
		_, known := r.bus.Server()
		require.False(t, known)
		r.wire.onDial.Store(nil)
		r.bus.Kick()
		h.requireMay(failed)

		require.NoError(t, srv.Kill())
		require.NoError(t, srv.Restart())
		r.bus.Kick()
		h.requireMayNot()
		eventually(t, "and then", func() bool { _, known := r.bus.Server(); return known })
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		r := newClusterRig(t, redisserver.ClusterOptions{}, nil)
		const p = 2
		h := &reader{recorder: &recorder{t: r.T, busy: &r.busy}, server: r.bus.Server}
		_, err := r.bus.Join(r.topic(p, r.channel(p), h))
		require.NoError(t, err)
		h.requireMay(mono.Never)
		heir := r.servers.Replicas(r.master(p))[0]
		require.NoError(t, r.servers.Failover(heir))
		h.requireMayNot()
		r.eventually("and then", func() bool { _, known := r.bus.Server(heir.Addr()); return known })
	})
}
