package redisclient

import (
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tandemcache/tandem/internal/mono"
)

// unchecked is for how long after an answer go-redis' pool is not let look at the socket before it hands out the connection.
// The look is a system call beside the command's write and read, and what it can find after so short a time, an end that came
// since, can as well come after the look.
const unchecked = 20 * time.Millisecond

// conn is a connection that its client can close, and that does not let in a length that is not bounded.
type conn struct {
	net.Conn
	of     *conns
	frames frames // of the reading goroutine: there is one at a time
	bad    error  // what frames has refused; go-redis may read again after an error that it does not report
	closed atomic.Bool
	heard  atomic.Int64 // when something was read last, by the clock of internal/mono
}

func (c *conn) Read(b []byte) (int, error) {
	if c.bad != nil {
		return 0, c.bad
	}
	n, err := c.Conn.Read(b)
	if c.bad = c.frames.check(b[:n]); c.bad != nil {
		_ = c.Close()
		return 0, c.bad
	}
	if err == nil {
		c.heard.Store(mono.Now())
	}
	return n, err
}

func (c *conn) Close() error {
	c.closed.Store(true)
	c.of.forget(c)
	return c.Conn.Close()
}

// SyscallConn is what go-redis' pool looks at before it hands out a connection that was idle. For one that has just been read
// from, and one that is not a socket itself, such as TLS, only whether it was closed here can be told; the pool would hand it
// out once more otherwise.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	if c.closed.Load() {
		return nil, net.ErrClosed
	}
	if mono.Now()-c.heard.Load() < int64(unchecked) {
		return nothingToSee{}, nil
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
