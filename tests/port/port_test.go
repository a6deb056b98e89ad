package port_test

import (
	"net"
	"syscall"
	"testing"

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
