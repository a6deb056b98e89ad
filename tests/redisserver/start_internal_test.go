package redisserver

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/port"
)

// A foreign program takes the port between the choice and the start.
func TestStartAnywhere_lostRaceForThePort(t *testing.T) {
	t.Parallel()
	Run(t, Options{}) // skips where there is no binary
	path, err := lookPath()
	require.NoError(t, err)
	s := &Server{path: path, dir: t.TempDir(), log: new(tail)}
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	var lost []int
	reserve := func() (*port.Port, error) {
		p, err := port.Reserve()
		if err == nil && len(lost) < 2 {
			foreign, err := net.Listen("tcp", p.Addr())
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, foreign.Close()) })
			lost = append(lost, p.Number)
		}
		return p, err
	}

	require.NoError(t, s.startAnywhere(reserve))

	require.Len(t, lost, 2)
	require.NotContains(t, lost, s.port.Number)
	require.NotContains(t, s.Output(), "Address already in use", "a lost attempt must leave no trace")
}

// Another server has the port and answers: ours must not be taken for ready.
func TestAsk_wantsTheRightProcess(t *testing.T) {
	t.Parallel()
	srv := Run(t, Options{})

	const patience, every = 10 * time.Second, 5 * time.Millisecond // a busy machine may let a question's time pass
	require.Eventually(t, func() bool {
		version, err := ask(srv.Addr(), srv.proc.cmd.Process.Pid)
		return err == nil && version == srv.Version()
	}, patience, every)
	require.Eventually(t, func() bool {
		_, err := ask(srv.Addr(), os.Getpid())
		require.Error(t, err)
		return strings.Contains(err.Error(), "the process that answers is")
	}, patience, every)
}
