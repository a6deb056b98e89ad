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
	missed  atomic.Int64 // beginnings
	ended   atomic.Int64
	client  *redisclient.Client
	tracker *Tracker

	mu   sync.Mutex // protects keys
	keys []string
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
	h := r.track()
	r.within(0, "the beginning", func() bool { return h.missed.Load() == 1 })
	return h
}

func (r *rig) track() *heardKeys {
	r.Helper()
	given := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", Dialer: r.wire.Dial})
	client, err := redisclient.Derive(given, nil, func(o *redis.Options) { o.Protocol = 2 })
	require.NoError(r, err)
	require.NoError(r, given.Close())
	h := &heardKeys{}
	h.client = client
	h.tracker = Track(client, TrackerOptions{
		Prefix: "p:", Interval: bound, Changed: h.changed, Begin: func() { h.missed.Add(1) }, End: func() { h.ended.Add(1) },
	})
	r.Cleanup(h.close)
	return h
}

// close is how a cache does it.
func (h *heardKeys) close() {
	h.tracker.Stop()
	h.client.Reset()
	_ = h.client.Close()
	h.tracker.Close()
}

func TestATrackerOnADeadConnection(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		h := r.tracked()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.EqualValues(t, 1, h.missed.Load(), "a connection that answers is kept")
		r.wire.muteAll()
		r.within(silence(bound)+maxBackoff, "another connection", func() bool { return h.missed.Load() == 2 })
		require.EqualValues(t, 1, h.ended.Load())
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

// Close ends what it finds: a connection that stands, one that does not answer, one that is being made. A subscription that is made
// while its client is being closed lives on in go-redis, and signs of life come on it for as long as they are asked for.
func TestATrackersCloseIsPrompt(t *testing.T) {
	at := func(t *testing.T, h *heardKeys) {
		t.Helper()
		began := time.Now()
		h.close()
		synctest.Wait()
		require.LessOrEqual(t, time.Since(began), 100*time.Millisecond)
		require.Equal(t, h.missed.Load(), h.ended.Load())
	}
	t.Run("on a connection", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) { at(t, r.tracked()) })
	})
	t.Run("on a silent one", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
			h := r.tracked()
			r.wire.muteAll()
			at(t, h)
		})
	})
	t.Run("where nobody greets", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
			on := func(c *wireConn, _ []byte) { c.mute.Store(true) }
			r.wire.onWrite.Store(&on)
			h := r.track()
			synctest.Wait()
			at(t, h)
		})
	})
	t.Run("while dialling", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
			hang := func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err()
			}
			r.wire.onDial.Store(&hang)
			h := r.track()
			synctest.Wait()
			at(t, h)
		})
	})
	t.Run("between two attempts", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
			refuse := func(context.Context) error { return errRefused }
			r.wire.onDial.Store(&refuse)
			h := r.track()
			time.Sleep(10 * time.Second)
			at(t, h)
		})
	})
}

// The client alone is closed as the connection is made, and the tracker is told to stop after that.
func TestATrackerThatStopsAsItsConnectionIsMade(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		dialling, gate := make(chan struct{}), make(chan struct{})
		slow := func(context.Context) error {
			close(dialling)
			<-gate
			return nil
		}
		r.wire.onDial.Store(&slow)
		h := r.track()
		<-dialling
		_ = h.client.Close()
		close(gate)
		r.within(bound, "the connection", func() bool { return h.missed.Load() == 1 })
		defer time.AfterFunc(time.Minute, r.wire.subscription().kill).Stop() // this test has to end
		began := time.Now()
		h.tracker.Close()
		require.LessOrEqual(t, time.Since(began), silence(bound))
		require.EqualValues(t, 1, h.ended.Load())
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
