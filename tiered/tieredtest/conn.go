package tieredtest

import (
	"bytes"
	"io"
	"net"
	"os"
	"time"
)

// wire is one connection.
type wire struct {
	link           *link
	up, down       *stream // to Redis, and from it
	client, server *conn
	subscribed     bool // it carries a subscription
}

func newWire(l *link) *wire {
	w := &wire{link: l, up: newStream(l), down: newStream(l)}
	w.client = &conn{wire: w, in: w.down, out: w.up}
	w.server = &conn{wire: w, in: w.up, out: w.down}
	return w
}

// deafenLocked makes a subscription deaf if the link is. It stays deaf: no connection loses a piece from its midst, and one
// that lives on afterwards would be a fault that no network has.
func (w *wire) deafenLocked() {
	if !w.link.deaf || !w.subscribed || w.down.lost {
		return
	}
	w.down.lost, w.down.packets = true, nil
	w.link.broken = time.Now()
}

// stream is one direction of a wire.
type stream struct {
	link    *link
	packets []packet
	last    time.Time // when the last packet arrives
	ended   error     // what a reader gets after the last packet; nil if there may be more
	lost    bool      // nothing that is written arrives
	wake    chan struct{}
	// How many bytes have been written, read, and used: whoever reads on has done with what it got before.
	written, taken, used int64
}

type packet struct {
	data []byte
	due  time.Time
}

func newStream(l *link) *stream { return &stream{link: l, wake: make(chan struct{})} }

func (s *stream) wakeLocked() {
	close(s.wake)
	s.wake = make(chan struct{})
}

func (s *stream) putLocked(b []byte) {
	s.written += int64(len(b))
	if s.lost {
		return
	}
	if due := time.Now().Add(s.link.delay); due.After(s.last) {
		s.last = due
	}
	s.packets = append(s.packets, packet{bytes.Clone(b), s.last})
	s.wakeLocked()
}

// takeLocked reads what has arrived. If that is nothing, it returns when something will have, or zero if it does not know.
func (s *stream) takeLocked(b []byte) (n int, err error, next time.Time) { //nolint:revive,staticcheck // the error belongs to the number
	switch {
	case s.link.cut:
	case len(s.packets) > 0 && s.packets[0].due.After(time.Now()):
		next = s.packets[0].due
	case len(s.packets) > 0:
		n = copy(b, s.packets[0].data)
		if s.packets[0].data = s.packets[0].data[n:]; len(s.packets[0].data) == 0 {
			s.packets = s.packets[1:]
		}
		s.taken += int64(n)
	default:
		err = s.ended
	}
	return n, err, next
}

func (s *stream) useLocked() {
	if s.used != s.taken {
		s.used = s.taken
		s.link.net.passLocked()
	}
}

// conn is one end of a wire, a net.Conn.
type conn struct {
	wire     *wire
	in, out  *stream
	closed   bool
	deadline time.Time // of reads; a write never waits
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.read(b)
	if n > 0 && c == c.wire.server {
		c.wire.link.net.tick()
	}
	return n, err
}

func (c *conn) read(b []byte) (int, error) {
	net := c.wire.link.net
	net.mu.Lock()
	defer net.mu.Unlock()
	c.in.useLocked()
	for {
		if err := c.errLocked(); err != nil || len(b) == 0 {
			return 0, err
		}
		n, err, next := c.in.takeLocked(b)
		if n > 0 || err != nil {
			return n, err
		}
		if next.IsZero() || !c.deadline.IsZero() && c.deadline.Before(next) {
			next = c.deadline
		}
		wake := c.in.wake
		net.mu.Unlock()
		wait(wake, nil, next)
		net.mu.Lock()
	}
}

func (c *conn) errLocked() error {
	switch {
	case c.closed:
		return errClosed
	case !c.deadline.IsZero() && !time.Now().Before(c.deadline):
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (c *conn) Write(b []byte) (int, error) {
	w := c.wire
	w.link.net.mu.Lock()
	defer w.link.net.mu.Unlock()
	switch {
	case c.closed:
		return 0, errClosed
	case c.in.ended != nil && !w.link.cut:
		return 0, c.in.ended
	}
	if c == w.client && bytes.Contains(b, []byte("$9\r\nsubscribe\r\n")) {
		w.subscribed = true
		w.deafenLocked()
	}
	c.out.putLocked(b)
	return len(b), nil
}

func (c *conn) Close() error {
	c.wire.link.net.mu.Lock()
	defer c.wire.link.net.mu.Unlock()
	c.closeLocked(io.EOF)
	return nil
}

// closeLocked ends the wire, for the other end with err. What was written before arrives, unless the link is cut or the
// wire is reset.
func (c *conn) closeLocked(err error) {
	if c.closed {
		return
	}
	w := c.wire
	c.closed, c.in.packets = true, nil
	if w.link.cut || err != io.EOF { //nolint:errorlint // it is one of two
		c.out.packets = nil
	}
	c.out.ended = err
	if w.subscribed {
		w.link.broken = time.Now()
	}
	if w.client.closed && w.server.closed {
		delete(w.link.wires, w)
	}
	c.in.wakeLocked()
	c.out.wakeLocked()
	w.link.net.passLocked()
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.wire.link.net.mu.Lock()
	defer c.wire.link.net.mu.Unlock()
	c.deadline = t
	c.in.wakeLocked()
	return nil
}

func (c *conn) SetDeadline(t time.Time) error  { return c.SetReadDeadline(t) }
func (*conn) SetWriteDeadline(time.Time) error { return nil }
func (*conn) LocalAddr() net.Addr              { return address }
func (*conn) RemoteAddr() net.Addr             { return address }

var errClosed = &net.OpError{Op: "use", Net: "memory", Addr: address, Err: net.ErrClosed}
