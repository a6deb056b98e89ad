package pubsub

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redisclient"
)

// heardKeys is what a tracker has told.
type heardKeys struct {
	missed atomic.Int64
	mu     sync.Mutex // protects keys
	keys   []string
}

func (h *heardKeys) changed(keys []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keys = append(h.keys, keys...)
}

func (h *heardKeys) all() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.keys)
}

// tracked starts a tracker on r's server. miniredis does not track: the messages are the test's.
func (r *rig) tracked() *heardKeys {
	r.Helper()
	given := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", Dialer: r.wire.Dial})
	client, err := redisclient.Derive(given, nil, func(o *redis.Options) { o.Protocol = 2 })
	require.NoError(r, err)
	require.NoError(r, given.Close())
	h := &heardKeys{}
	tr := Track(client, TrackerOptions{Prefix: "p:", Interval: bound, Changed: h.changed, Missed: func() { h.missed.Add(1) }})
	r.Cleanup(func() {
		_ = client.Close()
		tr.Close()
	})
	r.within(0, "the beginning", func() bool { return h.missed.Load() == 1 })
	return h
}

func TestATrackerOnADeadConnection(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		h := r.tracked()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.EqualValues(t, 1, h.missed.Load(), "a connection that answers is kept")
		r.wire.muteAll()
		r.within(silence(bound)+maxBackoff, "another connection", func() bool { return h.missed.Load() == 2 })
	})
}

func TestATrackerWhoseConnectionIsClosed(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		h := r.tracked()
		for i := range 5 {
			r.wire.subscription().kill()
			r.within(maxBackoff, "another connection", func() bool { return h.missed.Load() == int64(i)+2 })
		}
	})
}

// What arrives is an array, of keys with other prefixes as well, or something that no Redis sends.
func TestWhatATrackerHears(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		h := r.tracked()
		tr := &Tracker{opts: TrackerOptions{Prefix: "p:", Changed: h.changed}}
		tr.tell(&redis.Message{PayloadSlice: []string{"p:a", "q:b", "", "p:", "p:c"}})
		tr.tell(&redis.Message{Payload: "p:d"})
		require.Equal(t, []string{"a", "", "c"}, h.all())
		r.mini.Publish(trackingChannel, "p:e")
		synctest.Wait()
		require.Equal(t, []string{"a", "", "c"}, h.all())
		require.EqualValues(t, 1, h.missed.Load())
	})
}

func TestTrackingThatIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var asked atomic.Int64
	r.onCommand(func(p *server.Peer, cmd string, args []string) bool {
		if cmd != "CLIENT" {
			return false
		}
		switch strings.ToUpper(args[0]) {
		case "ID":
			p.WriteInt(7)
		case "TRACKING":
			asked.Add(1)
			require.Equal(t, "tracking on redirect 7 bcast prefix p:", strings.ToLower(strings.Join(args, " ")))
			p.WriteError("NOPERM this user has no permissions to run the 'client|tracking' command")
		default:
			return false
		}
		return true
	})
	client, err := redisclient.Derive(r.client.Client, TrackingOn("p:"), func(o *redis.Options) { o.Protocol = 2 })
	require.NoError(t, err)
	defer func() { _ = client.Close() }()
	require.ErrorContains(t, client.Ping(context.Background()).Err(), "NOPERM")
	require.Positive(t, asked.Load())
}
