// Package running runs the example programs in tests as processes of their own, puts load on them, and writes down what it
// measured.
package running

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/leak"
)

// programEnv makes a test binary the program that it tests.
const programEnv = "TANDEM_EXAMPLE_PROGRAM"

// Deadline bounds every wait for something that should happen soon.
const Deadline = 30 * time.Second

// Main is for TestMain. In a process that Start has started it runs the program instead of the tests.
func Main(m *testing.M, program func()) {
	if os.Getenv(programEnv) == "" {
		leak.Main(m)
		return
	}
	go func() { // ends with the test, however that ends
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	program()
	os.Exit(0)
}

// Process is a program that serves HTTP.
type Process struct {
	URL    string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr lockedBuffer
	client *http.Client
}

// Start starts the program with the given arguments and returns once it listens. At the test's end it is asked to end, and
// must do so in an orderly way.
func Start(t *testing.T, args ...string) *Process {
	t.Helper()
	p := &Process{
		cmd:    exec.Command(os.Args[0], args...),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}, Timeout: Deadline},
	}
	p.cmd.Env = append(os.Environ(), programEnv+"=1")
	p.cmd.Stderr = &p.stderr
	stdout, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.stdin, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() { p.stop(t) })

	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err, "the program ended: %s", &p.stderr)
	_, url, ok := strings.Cut(strings.TrimSpace(line), "listening on ")
	require.True(t, ok, line)
	p.URL = url
	return p
}

// Kill ends the process as a crash would.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func (p *Process) stop(t *testing.T) {
	p.client.CloseIdleConnections()
	defer p.stdin.Close()
	if t.Failed() {
		t.Logf("%s: %s", p.URL, &p.stderr)
	}
	if p.cmd.ProcessState != nil { // killed
		return
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil { // a system without it
		p.Kill()
		return
	}
	timer := time.AfterFunc(Deadline, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("%s: %v: %s", p.URL, err, &p.stderr)
	}
}

// Do sends a request and returns the status and the body, or an error and no status. It may be called by any goroutine.
func (p *Process) Do(method, path, body string) (int, []byte, error) {
	req, err := http.NewRequest(method, p.URL+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, err
	}
	return resp.StatusCode, b, nil
}

// Send sends a request whose answer must have the given status.
func (p *Process) Send(t require.TestingT, status int, method, path, body string) {
	got, b, err := p.Do(method, path, body)
	require.NoError(t, err)
	require.Equal(t, status, got, "%s %s: %s", method, path, b)
}

// Get gets JSON into v and returns the status, 0 if that failed. It may be called by any goroutine.
func (p *Process) Get(t assert.TestingT, path string, v any) int {
	status, b, err := p.Do(http.MethodGet, path, "")
	if err == nil && status == http.StatusOK {
		err = json.Unmarshal(b, v)
	}
	if !assert.NoError(t, err) {
		return 0
	}
	return status
}

type stats struct {
	Source int64 `json:"source"`
	Ready  bool  `json:"ready"`
}

// AwaitReady waits until the program's cache is what it is when all is well.
func (p *Process) AwaitReady(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		var s stats
		return p.Get(t, "/stats", &s) == http.StatusOK && s.Ready
	}, Deadline, 5*time.Millisecond)
}

// Source returns how often these processes have asked the source.
func Source(t *testing.T, ps ...*Process) (n int64) {
	t.Helper()
	for _, p := range ps {
		var s stats
		require.Equal(t, http.StatusOK, p.Get(t, "/stats", &s))
		n += s.Source
	}
	return n
}

// lockedBuffer is a bytes.Buffer that is read while the process writes.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
