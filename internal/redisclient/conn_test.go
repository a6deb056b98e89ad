package redisclient

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
)

func TestTheSocketIsLookedAtUnlessItHasJustAnswered(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	here, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	there, err := l.Accept()
	require.NoError(t, err)
	var of conns
	of.maxBulk.Store(minBulk)
	c := &conn{Conn: here, of: &of, frames: frames{maxBulk: &of.maxBulk}}
	c.heard.Store(mono.Never)
	looked := func() bool {
		t.Helper()
		raw, err := c.SyscallConn()
		require.NoError(t, err)
		called := false
		require.NoError(t, raw.Read(func(uintptr) bool { called = true; return true }))
		return called
	}
	require.Implements(t, (*syscall.Conn)(nil), c)
	require.True(t, looked(), "nothing was ever heard")

	_, err = there.Write([]byte("+OK\r\n"))
	require.NoError(t, err)
	_, err = c.Read(make([]byte, 16))
	require.NoError(t, err)
	c.heard.Store(mono.Now() + int64(time.Hour)) // no time passes
	require.False(t, looked())
	c.heard.Store(mono.Now() - int64(unchecked))
	require.True(t, looked())

	require.NoError(t, there.Close())
	_, err = c.Read(make([]byte, 16))
	require.Error(t, err)
	require.True(t, looked(), "an end is no answer")
	c.heard.Store(mono.Now() + int64(time.Hour))
	require.NoError(t, c.Close())
	_, err = c.SyscallConn()
	require.ErrorIs(t, err, net.ErrClosed, "and a connection that was closed here is told at once")
}

func TestAnAnswerIsHeard(t *testing.T) {
	t.Parallel()
	here, there := net.Pipe()
	defer func() { _ = there.Close() }()
	var of conns
	of.maxBulk.Store(minBulk)
	c := &conn{Conn: here, of: &of, frames: frames{maxBulk: &of.maxBulk}}
	before := mono.Now()
	go func() { _, _ = there.Write([]byte("+OK\r\n")) }()
	_, err := c.Read(make([]byte, 16))
	require.NoError(t, err)
	require.GreaterOrEqual(t, c.heard.Load(), before)
	require.NoError(t, c.Close())
}
