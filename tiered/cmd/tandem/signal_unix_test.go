//go:build unix

package main

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"
)

// process is the command in a process of its own.
type process struct {
	*exec.Cmd

	errOut syncBuffer
	ended  chan struct{}
}

// begin starts the command, with what change does to it.
func begin(t *testing.T, change func(*exec.Cmd), args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0], args...), ended: make(chan struct{})}
	p.Env = append(os.Environ(), asCommand+"=1")
	p.Stderr = &p.errOut
	change(p.Cmd)
	require.NoError(t, p.Start())
	go func() {
		_ = p.Wait() // ProcessState tells
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.ended
	})
	return p
}

func (p *process) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

func TestASignalEndsTheWaitForStandardInput(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		in, lines, err := os.Pipe()
		require.NoError(t, err)
		p := begin(t, func(c *exec.Cmd) { c.Stdin = in }, "invalidate", "-redis", m.Addr(), "users", "-")
		require.NoError(t, in.Close())
		// More than a pipe holds: that all was written says that it is read.
		require.NoError(t, lines.SetWriteDeadline(time.Now().Add(patience)))
		_, err = lines.WriteString(strings.Repeat("\n", 1<<18))
		require.NoError(t, err, p.errOut.String())
		require.NoError(t, p.Process.Signal(signal))
		eventually(t, p.over)
		require.Equal(t, exitFailure, p.ProcessState.ExitCode(), p.errOut.String())
		require.Contains(t, p.errOut.String(), "nothing of standard input was tried")
		require.NoError(t, lines.Close())
	}
}

// It cannot write its report: nobody reads it.
func TestASecondSignalEndsTheProcess(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	m.HSet("tandem:{users}:k:42", "a", "b")
	unread, full, err := os.Pipe()
	require.NoError(t, err)
	defer func() { require.NoError(t, unread.Close()) }()
	fill(t, full)
	p := begin(t, func(c *exec.Cmd) { c.Stdout = full }, "invalidate", "-redis", m.Addr(), "users", "42")
	require.NoError(t, full.Close())
	eventually(t, func() bool { return !m.Exists("tandem:{users}:k:42") })
	eventually(t, func() bool {
		err := p.Process.Signal(syscall.SIGTERM) // one that comes too soon after another is the same
		require.True(t, err == nil || errors.Is(err, os.ErrProcessDone), err)
		return p.over()
	})
	status, ok := p.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, ok)
	require.True(t, status.Signaled(), "it ended by itself, with %d: %s", status.ExitStatus(), p.errOut.String())
	require.Equal(t, syscall.SIGTERM, status.Signal())
}

// fill writes to a pipe until it takes nothing any more.
func fill(t *testing.T, pipe *os.File) {
	t.Helper()
	raw, err := pipe.SyscallConn()
	require.NoError(t, err)
	var full error
	require.NoError(t, raw.Write(func(fd uintptr) bool {
		for full == nil {
			_, full = syscall.Write(int(fd), make([]byte, 1))
		}
		return true
	}))
	require.ErrorIs(t, full, syscall.EAGAIN)
}
