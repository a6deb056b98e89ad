package redisserver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is one run of redis-server.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has been reaped and its output read
}

// startProcess starts path with args in dir and sends its output to log.
func startProcess(path string, args []string, dir string, log io.Writer) (*process, error) {
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.WaitDelay = time.Second // a child of Redis, such as a saving fork, may hold the pipe open
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go p.supervise(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("redisserver: start: %w", err)
	}
	return p, nil
}

// supervise starts the process, tells so, and reaps it. It keeps one thread for
// itself until then: the parent whose death Linux reports to a child is the thread
// that started it.
func (p *process) supervise(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	dieWithParent(p.cmd)
	if err := p.cmd.Start(); err != nil {
		started <- err
		return
	}
	release, err := guardOrphan(p.cmd.Process.Pid)
	if err != nil {
		_ = p.cmd.Process.Kill() // started a moment ago and not reaped yet: it cannot fail
	}
	started <- err
	_ = p.cmd.Wait() // how it ended is in the log, or was our doing
	if err == nil {
		release()
	}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill ends the process with SIGKILL and waits for its end.
func (p *process) kill() error {
	if err := p.signal(os.Kill); err != nil && !errors.Is(err, ErrNotRunning) {
		return err
	}
	<-p.done
	return nil
}

// stop ends the process with SIGTERM and waits for its end, and kills it if that takes too long.
func (p *process) stop() error {
	for _, send := range []func() error{p.terminate, p.resume} {
		if err := send(); err != nil && !errors.Is(err, ErrNotRunning) {
			return err
		}
	}
	timeout := time.NewTimer(stopTimeout)
	defer timeout.Stop()
	select {
	case <-p.done:
		return nil
	case <-timeout.C:
		if err := p.kill(); err != nil {
			return err
		}
		return fmt.Errorf("redisserver: not stopped after %s: killed", stopTimeout)
	}
}

func (p *process) terminate() error { return p.signal(syscall.SIGTERM) }

// signal returns ErrNotRunning if the process has ended.
func (p *process) signal(sig os.Signal) error {
	err := p.cmd.Process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return ErrNotRunning
	}
	if err != nil {
		return fmt.Errorf("redisserver: %v: %w", sig, err)
	}
	return nil
}
