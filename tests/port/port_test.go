package port_test

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/port"
)

func TestAPortIsTakenUntilItIsReleased(t *testing.T) {
	t.Parallel()
	p, err := port.Reserve()
	require.NoError(t, err)

	_, err = port.Take(p.Number)
	require.ErrorIs(t, err, syscall.EADDRINUSE, "reserved, though nothing listens on it")
	require.NoError(t, p.Release())

	foreign, err := net.Listen("tcp", p.Addr())
	require.NoError(t, err)
	_, err = port.Take(p.Number)
	require.ErrorIs(t, err, syscall.EADDRINUSE, "somebody listens on it")
	require.NoError(t, foreign.Close())
}

// A copy of the listener stays for a moment, as a process has it that is being started.
func TestListenWaitsForCopies(t *testing.T) {
	t.Parallel()
	p, err := port.Reserve()
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Release()) }()
	l, err := port.Listen(p.Addr())
	require.NoError(t, err)
	copied, err := l.(*net.TCPListener).File()
	require.NoError(t, err)
	require.NoError(t, l.Close())
	_, err = net.Listen("tcp", p.Addr())
	require.ErrorIs(t, err, syscall.EADDRINUSE)

	listened := make(chan error, 1)
	go func() {
		again, err := port.Listen(p.Addr())
		if err == nil {
			err = again.Close()
		}
		listened <- err
	}()
	require.Never(t, func() bool { return len(listened) > 0 }, 50*time.Millisecond, time.Millisecond)
	require.NoError(t, copied.Close())
	require.NoError(t, <-listened)
}
