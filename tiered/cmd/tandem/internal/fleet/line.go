package fleet

import (
	"bytes"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/target"
)

// lines are an instance's connections to Redis, kept so that a demonstration can break them: a server that kills a client
// would do, but the embedded one cannot, and no server makes a connection deaf.
type lines struct {
	mu   sync.Mutex // protects open
	open map[*line]struct{}
}

// track returns a dialer whose connections are among l.
func (l *lines) track(dial target.DialFunc) target.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c := &line{Conn: conn, of: l}
		l.mu.Lock()
		if l.open == nil {
			l.open = make(map[*line]struct{})
		}
		l.open[c] = struct{}{}
		l.mu.Unlock()
		if sys, ok := conn.(syscall.Conn); ok {
			// go-redis looks at the socket of a pooled connection before it uses it; so it does here, as without us.
			return struct {
				*line
				syscall.Conn
			}{c, sys}, nil
		}
		return c, nil
	}
}

// subscriptions returns the connections that a subscription lives on.
func (l *lines) subscriptions() []*line {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []*line
	for c := range l.open {
		if c.subscribed.Load() && !c.deaf.Load() {
			found = append(found, c)
		}
	}
	return found
}

// line is one connection.
type line struct {
	net.Conn

	of         *lines
	subscribed atomic.Bool
	deaf       atomic.Bool
}

// Write notices a subscription.
func (c *line) Write(b []byte) (int, error) {
	if isSubscribe(b) {
		c.subscribed.Store(true)
	}
	return c.Conn.Write(b)
}

// isSubscribe reports whether a write begins with the command SUBSCRIBE, or SSUBSCRIBE, as go-redis writes it.
func isSubscribe(b []byte) bool {
	if len(b) == 0 || b[0] != '*' {
		return false
	}
	_, rest, ok := bytes.Cut(b, []byte("\r\n"))
	return ok && (bytes.HasPrefix(rest, []byte("$9\r\nsubscribe\r\n")) || bytes.HasPrefix(rest, []byte("$10\r\nssubscribe\r\n")))
}

// Read throws away what arrives once the line is deaf: to the reader, the connection is open and silent.
func (c *line) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.deaf.Load() {
			return n, err
		}
	}
}

// Close forgets the line.
func (c *line) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
