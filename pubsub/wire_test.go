package pubsub

import (
	"bytes"
	"context"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

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
