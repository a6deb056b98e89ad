package redisserver_test

import (
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/redisserver"
)

func TestRun_answers(t *testing.T) {
	t.Parallel()
	srv := redisserver.Run(t, redisserver.Options{})

	require.NoError(t, srv.Client().Ping(t.Context()).Err())
	require.Regexp(t, `^\d+\.\d+\.\d+`, srv.Version())
	requireLogs(t, srv, "Ready to accept connections")
	host, _, err := net.SplitHostPort(srv.Addr())
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", host)
}

func TestRun_options(t *testing.T) {
	t.Parallel()
	srv := redisserver.Run(t, redisserver.Options{
		Args:     []string{"--maxmemory", "2mb", "--appendonly", "yes"},
		LogLevel: "warning",
	})
	rdb := srv.Client()

	for name, want := range map[string]string{
		"maxmemory": "2097152", "save": "", "appendonly": "yes", "loglevel": "warning",
	} {
		got, err := rdb.ConfigGet(t.Context(), name).Result()
		require.NoError(t, err)
		require.Equal(t, map[string]string{name: want}, got)
	}
}

func TestStart_tellsWhyRedisRefused(t *testing.T) {
	t.Parallel()
	redisserver.Run(t, redisserver.Options{}) // skips where there is no binary

	_, err := redisserver.Start(redisserver.Options{Args: []string{"--no-such-option", "1"}})
	require.ErrorContains(t, err, "ended before it answered")
	require.ErrorContains(t, err, "no-such-option")
}

func TestStart_givesEachServerAPortOfItsOwn(t *testing.T) {
	t.Parallel()
	redisserver.Run(t, redisserver.Options{})

	const n = 8
	var wg sync.WaitGroup
	servers, errs := make([]*redisserver.Server, n), make([]error, n)
	for i := range n {
		wg.Go(func() { servers[i], errs[i] = redisserver.Start(redisserver.Options{}) })
	}
	wg.Wait()
	addrs := make(map[string]bool)
	for i := range n {
		require.NoError(t, errs[i])
		addrs[servers[i].Addr()] = true
		require.NoError(t, servers[i].Close())
	}
	require.Len(t, addrs, n)
}

func TestServer_Kill(t *testing.T) {
	t.Parallel()
	srv := redisserver.Run(t, redisserver.Options{})

	require.NoError(t, srv.Kill())
	require.Error(t, ping(t, srv))
	require.NoError(t, srv.Kill(), "killing a dead server")
	require.ErrorIs(t, srv.Pause(), redisserver.ErrNotRunning)
	require.ErrorIs(t, srv.Resume(), redisserver.ErrNotRunning)
}

func TestServer_Restart_keepsAddressAndForgetsData(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]func(*redisserver.Server) error{
		"running": func(*redisserver.Server) error { return nil },
		"stopped": (*redisserver.Server).Stop,
		"killed":  (*redisserver.Server).Kill,
		"paused":  (*redisserver.Server).Pause,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := redisserver.Run(t, redisserver.Options{})
			addr, rdb := srv.Addr(), srv.Client()
			before := runID(t, rdb)
			require.NoError(t, rdb.Set(t.Context(), "k", "v", 0).Err())

			require.NoError(t, down(srv))
			require.NoError(t, srv.Restart())

			require.Equal(t, addr, srv.Addr())
			require.NotEqual(t, before, runID(t, rdb))
			require.ErrorIs(t, rdb.Get(t.Context(), "k").Err(), redis.Nil)
		})
	}
}

func TestServer_Restart_afterStopHasSavedData(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := redisserver.Run(t, redisserver.Options{Dir: dir, Args: []string{"--save", "3600 1"}})
	rdb := srv.Client()
	require.NoError(t, rdb.Set(t.Context(), "k", "v", 0).Err())

	require.NoError(t, srv.Stop())
	require.Error(t, ping(t, srv))
	require.NoError(t, srv.Restart())

	require.Equal(t, "v", rdb.Get(t.Context(), "k").Val())
	require.NoError(t, srv.Close())
	require.FileExists(t, filepath.Join(dir, "dump.rdb"), "Close must not touch a directory of the caller's")
}

func TestServer_Pause(t *testing.T) {
	t.Parallel()
	srv := redisserver.Run(t, redisserver.Options{})

	require.NoError(t, srv.Pause())
	var timeout net.Error
	require.ErrorAs(t, ping(t, srv), &timeout, "a paused server must not answer")
	require.True(t, timeout.Timeout())
	require.NoError(t, srv.Resume())
	require.NoError(t, srv.Client().Ping(t.Context()).Err())
}

func TestServer_Stop_paused(t *testing.T) {
	t.Parallel()
	srv := redisserver.Run(t, redisserver.Options{})

	require.NoError(t, srv.Pause())
	require.NoError(t, srv.Stop())
	requireRefused(t, srv.Addr())
	require.Contains(t, srv.Output(), "ready to exit", "the end must have been an orderly one")
}

func TestServer_Close(t *testing.T) {
	t.Parallel()
	srv := redisserver.Run(t, redisserver.Options{})
	rdb := srv.Client()
	dir := rdb.ConfigGet(t.Context(), "dir").Val()["dir"]
	require.DirExists(t, dir)
	require.NoError(t, srv.Pause(), "a paused server is no obstacle")

	require.NoError(t, srv.Close())
	require.NoError(t, srv.Close(), "closing twice")

	requireRefused(t, srv.Addr())
	require.NoDirExists(t, dir)
	require.ErrorIs(t, rdb.Ping(t.Context()).Err(), redis.ErrClosed)
	for _, f := range []func() error{srv.Kill, srv.Stop, srv.Restart, srv.Pause, srv.Resume} {
		require.ErrorIs(t, f(), redisserver.ErrClosed)
	}
}

func TestServer_concurrentUse(t *testing.T) {
	t.Parallel()
	srv := redisserver.Run(t, redisserver.Options{})
	var wg sync.WaitGroup
	for _, f := range []func() error{srv.Kill, srv.Restart, srv.Pause, srv.Resume, srv.Stop, srv.Restart} {
		wg.Go(func() { _ = f() }) // the order decides which of them finds the server down
		wg.Go(func() { _ = srv.Client().Close() })
		wg.Go(func() { _ = srv.Output() })
	}
	wg.Wait()

	require.NoError(t, srv.Restart())
	require.NoError(t, srv.Client().Ping(t.Context()).Err())
}

func runID(t *testing.T, rdb *redis.Client) string {
	t.Helper()
	info, err := rdb.InfoMap(t.Context(), "server").Result()
	require.NoError(t, err)
	return info["Server"]["run_id"]
}

func TestStart_leavesNothingBehindWhenItFails(t *testing.T) {
	t.Parallel()
	redisserver.Run(t, redisserver.Options{})
	missing := filepath.Join(t.TempDir(), "missing")

	_, err := redisserver.Start(redisserver.Options{Dir: missing})
	require.ErrorIs(t, err, os.ErrNotExist)
}
