package proxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const chunk = 32 << 10

// link is one connection: from a client to the proxy, and from there to the server.
type link struct {
	proxy  *Proxy
	client *net.TCPConn
	bus    atomic.Bool

	over    chan struct{} // closed by reset
	closing sync.Once

	mu     sync.Mutex   // protects server
	server *net.TCPConn // nil until dialled
}

func newLink(p *Proxy, client *net.TCPConn) *link {
	return &link{proxy: p, client: client, over: make(chan struct{})}
}

func (c *link) kind() Kind {
	if c.bus.Load() {
		return Bus
	}
	return Data
}

func (c *link) run() {
	defer c.proxy.forget(c)
	defer c.reset() // after an orderly end on both sides there is nothing left to reset
	server, err := net.DialTimeout("tcp", c.proxy.target, dialTimeout)
	if err != nil {
		return
	}
	c.mu.Lock()
	c.server = server.(*net.TCPConn)
	c.mu.Unlock()
	select {
	case <-c.over: // reset while it was dialled
		abort(c.server)
		return
	default:
	}
	var both sync.WaitGroup
	both.Go(func() { c.pump(c.server, c.client, Up) })
	both.Go(func() { c.pump(c.client, c.server, Down) })
	both.Wait()
}

// pump copies in one direction until the end, which it passes on as it came: in order, or as a reset of both.
func (c *link) pump(to, from *net.TCPConn, d Direction) {
	var find subscribes
	buf := make([]byte, chunk)
	for {
		n, err := from.Read(buf)
		if d == Up && n > 0 && !c.bus.Load() && find.seen(buf[:n]) {
			c.bus.Store(true)
		}
		if !c.gate(d) { // an end is held back like a byte
			return
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				c.reset()
				return
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			_ = to.CloseWrite()
			return
		case err != nil:
			c.reset()
			return
		}
	}
}

// gate waits until the rule lets pass what was read, and reports false if the connection is over before.
func (c *link) gate(d Direction) bool {
	read := time.Now()
	for {
		r, changed := c.proxy.rule(c.bus.Load(), d)
		var timer <-chan time.Time
		if !r.Hold {
			left := r.Delay - time.Since(read)
			if left <= 0 {
				return true
			}
			timer = time.After(left)
		}
		select {
		case <-changed:
		case <-timer:
		case <-c.over:
			return false
		}
	}
}

// reset ends both sides at once, with a RST where something is still open.
func (c *link) reset() {
	c.closing.Do(func() { close(c.over) })
	abort(c.client)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server != nil {
		abort(c.server)
	}
}

func abort(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}
