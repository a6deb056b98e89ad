package pubsub

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
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

// wire is a Dialer whose connections a test may watch, stop and break.
type wire struct {
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// onDial, if set, is called before each dial, and may refuse it.
	onDial atomic.Pointer[func(ctx context.Context) error]
	// onWrite, if set, is called before each write.
	onWrite atomic.Pointer[func(c *wireConn, b []byte)]

	dialled, open atomic.Int64

	mu    sync.Mutex
	conns []*wireConn
}

func tcp(ctx context.Context, network, addr string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}

func (w *wire) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if on := w.onDial.Load(); on != nil {
		if err := (*on)(ctx); err != nil {
			return nil, err
		}
	}
	conn, err := w.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	w.dialled.Add(1)
	w.open.Add(1)
	c := &wireConn{Conn: conn, of: w, closed: make(chan struct{})}
	c.once = sync.OnceValue(func() error {
		close(c.closed)
		w.open.Add(-1)
		return conn.Close()
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns = append(w.conns, c)
	return c, nil
}

// subscriptions returns the connections that were used to subscribe, oldest first.
func (w *wire) subscriptions() []*wireConn {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.conns), func(c *wireConn) bool { return !c.subscribed.Load() })
}

// subscription returns the last of them.
func (w *wire) subscription() *wireConn {
	all := w.subscriptions()
	if len(all) == 0 {
		return nil
	}
	return all[len(all)-1]
}

// muteAll makes every connection go silent that is open now.
func (w *wire) muteAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.mute.Store(true)
	}
}

type wireConn struct {
	net.Conn
	of         *wire
	once       func() error
	subscribed atomic.Bool
	mute       atomic.Bool // what arrives is lost, as behind a dead link
	hold       atomic.Pointer[chan struct{}]
	closed     chan struct{}
	vanished   atomic.Bool // see vanish
	// edit, if set, makes of what arrives what is read.
	edit     atomic.Pointer[func(b []byte) []byte]
	deadline atomic.Pointer[time.Time]
}

func (c *wireConn) Close() error { return c.once() }

// kill ends the connection as the other end would.
func (c *wireConn) kill() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
		return
	}
	_ = c.Conn.Close()
}

// vanish ends the connection for the other end, and nothing tells this one.
func (c *wireConn) vanish() {
	c.vanished.Store(true)
	_ = c.Conn.Close()
}

func (c *wireConn) SetReadDeadline(at time.Time) error {
	c.deadline.Store(&at)
	if c.vanished.Load() {
		return nil
	}
	return c.Conn.SetReadDeadline(at)
}

func (c *wireConn) SetDeadline(at time.Time) error {
	_ = c.SetReadDeadline(at)
	return c.SetWriteDeadline(at)
}

func (c *wireConn) SetWriteDeadline(at time.Time) error {
	if c.vanished.Load() {
		return nil
	}
	return c.Conn.SetWriteDeadline(at)
}

// silence waits for what does not come.
func (c *wireConn) silence() error {
	var due <-chan time.Time
	if at := c.deadline.Load(); at != nil && !at.IsZero() {
		timer := time.NewTimer(time.Until(*at))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-due:
		return os.ErrDeadlineExceeded
	case <-c.closed:
		return net.ErrClosed
	}
}

// holdReads makes what arrives wait until the returned function is called.
func (c *wireConn) holdReads() (letGo func()) {
	gate := make(chan struct{})
	c.hold.Store(&gate)
	return sync.OnceFunc(func() {
		c.hold.Store(nil)
		close(gate)
	})
}

func (c *wireConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("\r\nsubscribe\r\n")) || bytes.Contains(b, []byte("\r\nssubscribe\r\n")) {
		c.subscribed.Store(true)
	}
	if on := c.of.onWrite.Load(); on != nil {
		(*on)(c, b)
	}
	if c.vanished.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *wireConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if c.vanished.Load() {
			return 0, c.silence()
		}
		if gate := c.hold.Load(); gate != nil && err == nil {
			<-*gate
		}
		if edit := c.edit.Load(); edit != nil && err == nil {
			if n = copy(b, (*edit)(b[:n])); n == 0 {
				continue
			}
		}
		if err != nil || !c.mute.Load() {
			return n, err
		}
	}
}

// event is what a Handler was told, but for reports of heartbeats.
type event struct {
	what string // begin, end, prove, message, unreadable
	at   int64
	m    Message
	err  error
}

// recorder is a Handler that remembers. Two calls at once on the handlers of one bus fail the test.
type recorder struct {
	t    *testing.T
	busy *atomic.Int32 // shared by the members of a bus

	mu     sync.Mutex
	events []event
	beats  []BeatReport
	// on, if set, is called with each event, under the bus' lock.
	on func(e event)
}

// alone is called first in each method, and what it returns when that is done.
func (r *recorder) alone(what string) func() {
	if r.busy.Add(1) != 1 {
		r.t.Errorf("two calls of handlers at once: %s", what)
	}
	return func() { r.busy.Add(-1) }
}

func (r *recorder) add(e event) {
	defer r.alone(e.what)()
	r.mu.Lock()
	r.events = append(r.events, e)
	on := r.on
	r.mu.Unlock()
	if on != nil {
		on(e)
	}
}

func (r *recorder) Begin()               { r.add(event{what: "begin"}) }
func (r *recorder) End(reason error)     { r.add(event{what: "end", err: reason}) }
func (r *recorder) Prove(at int64)       { r.add(event{what: "prove", at: at}) }
func (r *recorder) Message(m Message)    { r.add(event{what: "message", m: m}) }
func (r *recorder) Unreadable(err error) { r.add(event{what: "unreadable", err: err}) }

func (r *recorder) Beat(b BeatReport) {
	defer r.alone("beat")()
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.beats); n > 0 && b.Sent < r.beats[n-1].Sent {
		r.t.Errorf("heartbeats are reported in another order than they were sent in")
	}
	r.beats = append(r.beats, b)
}

func (r *recorder) all() []event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

func (r *recorder) reports() []BeatReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.beats)
}

func (r *recorder) of(what string) []event {
	return slices.DeleteFunc(r.all(), func(e event) bool { return e.what != what })
}

func (r *recorder) count(what string) int { return len(r.of(what)) }

// story returns what happened, in order, repeated proofs left out.
func (r *recorder) story() string {
	var words []string
	for _, e := range r.all() {
		word := e.what
		if e.what == "message" {
			word = string(e.m.Op) + "(" + strings.Join(e.m.Keys, " ") + ")"
		}
		if word != "prove" || len(words) == 0 || words[len(words)-1] != "prove" {
			words = append(words, word)
		}
	}
	return strings.Join(words, " ")
}

// plot is the story without proofs, for those that may come at any time.
func (r *recorder) plot() string {
	return strings.Join(slices.DeleteFunc(strings.Fields(r.story()), func(w string) bool { return w == "prove" }), " ")
}

// proven says whether the member has been told of a proof after its last begin.
func (r *recorder) proven() bool {
	all := r.all()
	for _, e := range slices.Backward(all) {
		switch e.what {
		case "prove":
			return true
		case "begin", "end":
			return false
		}
	}
	return false
}

// keys returns the keys of all invalidations that were heard.
func (r *recorder) keys() []string {
	var out []string
	for _, e := range r.of("message") {
		out = append(out, e.m.Keys...)
	}
	return out
}

// checkProofs requires that each proof is the time at which some heartbeat was sent, and that none came outside a session.
// A proof may be heard before its heartbeat is reported, so it is for the end of a test, when no heartbeat is on its way.
func (r *recorder) checkProofs() {
	r.t.Helper()
	sent := map[int64]bool{}
	for _, b := range r.reports() {
		sent[b.Sent] = true
	}
	in := false
	for _, e := range r.all() {
		switch e.what {
		case "begin":
			require.False(r.t, in, "a session begins in a session: %s", r.story())
			in = true
		case "end":
			require.True(r.t, in, "what had not begun ends: %s", r.story())
			in = false
		case "prove":
			require.True(r.t, in, "a proof outside a session: %s", r.story())
		}
	}
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
