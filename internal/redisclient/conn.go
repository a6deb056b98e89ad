package redisclient

import (
	"net"
	"sync/atomic"
	"syscall"
)

// conn is a connection that its client can close, and that does not let in what would take memory without bound.
type conn struct {
	net.Conn
	of     *conns
	frames frames // of the reading goroutine: there is one at a time
	closed atomic.Bool
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if bad := c.frames.check(b[:n]); bad != nil {
		_ = c.Close()
		return 0, bad
	}
	return n, err
}

func (c *conn) Close() error {
	c.closed.Store(true)
	c.of.forget(c)
	return c.Conn.Close()
}

// SyscallConn is what go-redis' pool looks at before it hands out a connection that was idle. For one that is not a socket
// itself, such as TLS, only whether it was closed here can be told; the pool would hand it out once more otherwise.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	if c.closed.Load() {
		return nil, net.ErrClosed
	}
	if socket, ok := c.Conn.(syscall.Conn); ok {
		return socket.SyscallConn()
	}
	return nothingToSee{}, nil
}

// nothingToSee is a RawConn without a file descriptor.
type nothingToSee struct{}

func (nothingToSee) Control(func(uintptr)) error    { return nil }
func (nothingToSee) Read(func(uintptr) bool) error  { return nil }
func (nothingToSee) Write(func(uintptr) bool) error { return nil }
