package redisserver

import (
	"fmt"
	"os"
	"os/exec"
)

// RequireEnv names the environment variable that, set to 1, makes Run fail where it
// would skip. Continuous integration sets it.
const RequireEnv = "TANDEM_REQUIRE_REDIS"

// TB is the part of testing.TB that Run uses. If it has the method Failed as well, the
// server's output is logged when the test has failed.
type TB interface {
	Helper()
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(f func())
	Logf(format string, args ...any)
}

// Run starts a server for the test tb, and closes it when the test is over. It skips
// the test if there is no redis-server on PATH, or fails it if [RequireEnv] is 1.
func Run(tb TB, opts Options) *Server {
	tb.Helper()
	if !Need(tb) {
		return nil // only where Fatalf and Skipf return, as in a fake TB
	}
	s, err := Start(opts)
	if err != nil {
		tb.Fatalf("%v", err)
		return nil
	}
	tb.Cleanup(func() { s.finish(tb) })
	return s
}

// RunCluster starts a cluster for the test tb as Run starts a server.
func RunCluster(tb TB, opts ClusterOptions) *Cluster {
	tb.Helper()
	if !Need(tb) {
		return nil
	}
	c, err := StartCluster(opts)
	if err != nil {
		tb.Fatalf("%v", err)
		return nil
	}
	tb.Cleanup(func() { c.finish(tb) })
	return c
}

// Need skips the test tb if there is no redis-server on PATH, or fails it if [RequireEnv] is 1.
// It returns whether there is one, for a tb whose Fatalf and Skipf return.
func Need(tb TB) bool {
	tb.Helper()
	_, err := lookPath()
	switch {
	case err == nil:
	case os.Getenv(RequireEnv) == "1":
		tb.Fatalf("%v, and %s=1 requires it", err, RequireEnv)
	default:
		tb.Skipf("%v: install it to run this test", err)
	}
	return err == nil
}

// finish closes the server and, if the test has failed, shows what the server said.
func (s *Server) finish(tb TB) {
	tb.Helper()
	s.logIfFailed(tb)
	if err := s.Close(); err != nil {
		tb.Fatalf("%v", err)
	}
}

func (s *Server) logIfFailed(tb TB) {
	tb.Helper()
	if t, ok := tb.(interface{ Failed() bool }); ok && t.Failed() {
		tb.Logf("redis-server %s at %s, last output:\n%s", s.Version(), s.Addr(), s.Output())
	}
}

// finish is that of all nodes.
func (c *Cluster) finish(tb TB) {
	tb.Helper()
	for _, n := range c.nodes {
		n.logIfFailed(tb)
	}
	if err := c.Close(); err != nil {
		tb.Fatalf("%v", err)
	}
}

func lookPath() (string, error) {
	path, err := exec.LookPath(binary)
	if err != nil {
		return "", fmt.Errorf("%w (%w)", ErrNoBinary, err)
	}
	return path, nil
}
