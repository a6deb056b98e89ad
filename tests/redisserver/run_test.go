package redisserver_test

import (
	"bufio"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/redisserver"
)

// This test binary runs one of its own tests, in an environment without redis-server.
func TestRun_withoutBinary(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		require string
		passes  bool
		says    []string
	}{
		"skips":          {require: "", passes: true, says: []string{"--- SKIP", "no redis-server on PATH", "install it"}},
		"skips unless 1": {require: "0", passes: true, says: []string{"--- SKIP"}},
		"fails if required": {require: "1", passes: false, says: []string{
			"--- FAIL", "no redis-server on PATH", redisserver.RequireEnv + "=1 requires it",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), self(t), "-test.run=^TestRun_answers$", "-test.v")
			cmd.Env = append(os.Environ(), "PATH="+t.TempDir(), redisserver.RequireEnv+"="+tc.require)

			out, err := cmd.CombinedOutput()

			require.Equal(t, tc.passes, err == nil, "%s", out)
			for _, text := range tc.says {
				require.Contains(t, string(out), text)
			}
		})
	}
}

func TestServer_diesWithItsParent(t *testing.T) {
	t.Parallel()
	redisserver.Run(t, redisserver.Options{})
	holder := exec.CommandContext(t.Context(), self(t))
	holder.Env = append(os.Environ(), holderEnv+"=1", "TMPDIR="+t.TempDir()) // it cannot clean up
	holder.Stderr = os.Stderr
	_, err := holder.StdinPipe() // open until the end, so that only the kill ends the holder
	require.NoError(t, err)
	stdout, err := holder.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, holder.Start())
	addr, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)

	require.NoError(t, holder.Process.Kill())
	require.Error(t, holder.Wait())
	requireRefused(t, strings.TrimSpace(addr))
}

// fake is a TB whose Skipf and Fatalf return. It has no method Failed, unlike failing.
type fake struct {
	cleanups []func()
	fatal    bool
	logs     []string
}

func (*fake) Helper()                   {}
func (*fake) Skipf(string, ...any)      {}
func (f *fake) Fatalf(string, ...any)   { f.fatal = true }
func (f *fake) Cleanup(g func())        { f.cleanups = append(f.cleanups, g) }
func (f *fake) Logf(s string, _ ...any) { f.logs = append(f.logs, s) }

type failing struct{ fake }

func (*failing) Failed() bool { return true }

func TestRun_cleanup(t *testing.T) {
	t.Parallel()
	redisserver.Run(t, redisserver.Options{})

	t.Run("passed", func(t *testing.T) {
		t.Parallel()
		var tb fake
		srv := redisserver.Run(&tb, redisserver.Options{})
		require.Len(t, tb.cleanups, 1)
		tb.cleanups[0]()
		require.ErrorIs(t, srv.Kill(), redisserver.ErrClosed)
		require.Empty(t, tb.logs)
	})
	t.Run("failed", func(t *testing.T) {
		t.Parallel()
		var tb failing
		redisserver.Run(&tb, redisserver.Options{})
		tb.cleanups[0]()
		require.Len(t, tb.logs, 1, "the server's output must be logged")
		require.False(t, tb.fatal)
	})
	t.Run("not started", func(t *testing.T) {
		t.Parallel()
		var tb fake
		require.Nil(t, redisserver.Run(&tb, redisserver.Options{Args: []string{"--no-such-option", "1"}}))
		require.True(t, tb.fatal)
		require.Empty(t, tb.cleanups)
	})
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	require.NoError(t, err)
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be replaced in its own file")
	}
	return path
}
