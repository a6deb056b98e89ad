package pubsub

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redisclient"
	"github.com/tandemcache/tandem/tests/leak"
	"github.com/tandemcache/tandem/tests/port"
)

func TestMain(m *testing.M) { leak.Main(closing{m}) }

// closing closes what tests share before anybody looks for what is left.
type closing struct{ *testing.M }

func (c closing) Run() int {
	code := c.M.Run()
	_ = calm.Close()
	return code
}

// patience is how long a test waits for something that must happen.
const patience = 10 * time.Second

// lasting is a bound under which a session ends after five seconds of silence, and heartbeats are as rare as maxInterval lets them
// be: there is one about every two seconds all the same, so who waits for one asks for it.
const lasting = time.Hour

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, patience, time.Millisecond, what)
}

// rig is a bus on a miniredis, or on another server.
type rig struct {
	*testing.T
	mini   *miniredis.Miniredis // nil with another server
	wire   *wire
	client *redisclient.Client // the bus' own
	bus    *Bus
	busy   atomic.Int32
	// redials counts, where newRigTo made the bus.
	redials atomic.Int64

	hook atomic.Pointer[func(p *server.Peer, cmd string, args []string) bool]
}

func newRig(t *testing.T) *rig {
	t.Helper()
	m := miniredis.RunT(t)
	r := newRigOn(t, m.Addr())
	r.watch(m)
	return r
}

// newRigThatRestarts is a rig whose miniredis keeps its port while it is closed.
func newRigThatRestarts(t *testing.T) *rig {
	t.Helper()
	own, err := port.Reserve()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, own.Release()) })
	m := miniredis.NewMiniRedis()
	require.NoError(t, m.StartAddr(own.Addr()))
	t.Cleanup(m.Close)
	r := newRigOn(t, m.Addr())
	r.watch(m)
	return r
}

// newRigInBubble is for the bubbles of testing/synctest: no real socket, and no name that go-redis would look up.
func newRigInBubble(t *testing.T) *rig {
	t.Helper()
	t.Cleanup(func() { time.Sleep(3 * time.Second) }) // go-redis' pool, after many failed dials, looks once a second whether it is closed
	return newRigOnPipes(t)
}

func newRigOnPipes(t *testing.T) *rig {
	t.Helper()
	m := miniredis.NewMiniRedis()
	t.Cleanup(m.Close)
	m.ClockTTL(true)
	conn, err := m.Dial() // starts the server
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	r := newRigAt(t, "127.0.0.1:1", &wire{dial: func(context.Context, string, string) (net.Conn, error) { return m.Dial() }})
	r.watch(m)
	return r
}

// newRigOn is a rig on a server whose sockets take what is written, however long a busy machine takes to write it.
func newRigOn(t *testing.T, addr string) *rig {
	t.Helper()
	r := newRigAt(t, addr, &wire{dial: tcp})
	r.bus.writePatience = patience
	return r
}

func newRigAt(t *testing.T, addr string, w *wire) *rig {
	t.Helper()
	given := redis.NewClient(&redis.Options{Addr: addr, Dialer: w.Dial})
	client, err := redisclient.Derive(given, nil)
	require.NoError(t, err)
	require.NoError(t, given.Close())
	r := &rig{T: t, wire: w, client: client, bus: New(client, Options{})}
	t.Cleanup(func() {
		r.bus.Stop()
		_ = client.Close()
		r.bus.Close()
		// One that was dialled when nobody wanted it any more is closed when it is there.
		eventually(t, "no connection left open", func() bool { return w.open.Load() == 0 })
	})
	return r
}

// watch lets the test see and answer the commands that r's miniredis gets.
func (r *rig) watch(m *miniredis.Miniredis) {
	r.mini = m
	m.Server().SetPreHook(func(p *server.Peer, cmd string, args ...string) bool {
		hook := r.hook.Load()
		return hook != nil && (*hook)(p, cmd, args)
	})
}

// newRigTo is a rig whose bus dials wherever target says then, and closes its connections when it asks for it.
func newRigTo(t *testing.T, target func() string) *rig {
	t.Helper()
	r := newRigAt(t, "moving:1", &wire{dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return tcp(ctx, network, target())
	}})
	r.bus = New(r.client, Options{Redial: func() {
		r.redials.Add(1)
		r.client.Reset()
	}})
	r.bus.writePatience = patience
	return r
}

func (r *rig) onCommand(hook func(p *server.Peer, cmd string, args []string) bool) {
	if hook == nil {
		r.hook.Store(nil)
		return
	}
	r.hook.Store(&hook)
}

func (r *rig) recorder() *recorder { return &recorder{t: r.T, busy: &r.busy} }

func topic(channel string, bound time.Duration, h Handler) Topic {
	return Topic{Channel: channel, VersionKey: "version-of-" + channel, VersionTTL: time.Hour, Bound: bound, Handler: h}
}

func (r *rig) join(channel string, bound time.Duration) (*recorder, func()) {
	r.Helper()
	h := r.recorder()
	leave, err := r.bus.Join(topic(channel, bound, h))
	require.NoError(r, err)
	return h, leave
}

// joined joins and waits for the first proof.
func (r *rig) joined(channel string, bound time.Duration) (*recorder, func()) {
	r.Helper()
	h, leave := r.join(channel, bound)
	eventually(r, "a proof", h.proven)
	return h, leave
}

// publish sends a message to all who have subscribed, on a connection that is nobody's.
func (r *rig) publish(channel string, m Message) {
	r.Helper()
	r.mini.Publish(channel, string(m.Encode()))
}

func inv(keys ...string) Message { return Message{Op: Invalidate, Sender: "test", Keys: keys} }

// errRefused is a Dialer's answer.
var errRefused = fmt.Errorf("refused: %w", io.ErrUnexpectedEOF)
