//go:build linux

package worker

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// ErrSharesProcess is returned by the methods that need a process when the worker has none of its own.
var ErrSharesProcess = errors.New("worker: it has no process of its own")

// Remote is a worker as the harness sees it.
type Remote struct {
	Config Config
	cmd    *exec.Cmd // nil in the harness' own process
	ended  chan struct{}

	mu       sync.Mutex // protects what follows
	commands *gob.Encoder
	hangUp   io.Closer
	id       int
	done     map[int]chan struct{}
	err      error
}

// Here starts a worker in this process. Each report is given to sink, one at a time.
func Here(cfg Config, sink func(Report)) *Remote {
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	r := newRemote(cfg, inW)
	go func() {
		_ = outW.CloseWithError(run(inR, outW))
		_ = inR.Close()
	}()
	_ = r.commands.Encode(cfg) // it is read before anything else is done
	go r.receive(outR, sink, func() error { return nil })
	return r
}

// Spawn starts a worker in a process of its own: this very binary, whose TestMain calls Main.
func Spawn(cfg Config, sink func(Report)) (*Remote, error) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), workerEnv+"=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	r := newRemote(cfg, in)
	r.cmd = cmd
	started := make(chan error)
	go func() {
		// The parent whose death Linux reports to a child is the thread that started it, which therefore must stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			r.receive(out, sink, cmd.Wait)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	if err := r.commands.Encode(cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("worker: %w", err), r.Kill())
	}
	return r, nil
}

func newRemote(cfg Config, in io.WriteCloser) *Remote {
	return &Remote{
		Config: cfg, ended: make(chan struct{}),
		commands: gob.NewEncoder(in), hangUp: in, done: map[int]chan struct{}{},
	}
}

func (r *Remote) receive(out io.Reader, sink func(Report), wait func() error) {
	defer close(r.ended)
	in := gob.NewDecoder(out)
	for {
		var report Report
		if in.Decode(&report) != nil {
			break // the end, or a report that a killed process could not finish
		}
		sink(report)
		r.mu.Lock()
		if report.Failed != "" {
			r.err = fmt.Errorf("worker %d: %s", r.Config.Number, report.Failed)
		}
		for _, id := range report.Done {
			close(r.done[id])
			delete(r.done, id)
		}
		r.mu.Unlock()
	}
	_ = wait() // how it ended is in the last report, or was our doing
}

// Do sends a command and waits until it is done.
func (r *Remote) Do(ctx context.Context, op Op, rate int) error {
	done, err := r.send(op, rate)
	if err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-r.ended:
		return r.failure()
	case <-ctx.Done():
		return fmt.Errorf("worker %d: command %d: %w", r.Config.Number, op, ctx.Err())
	}
}

// Tell sends a command and does not wait; one that has ended does not hear it.
func (r *Remote) Tell(op Op, rate int) { _, _ = r.send(op, rate) }

func (r *Remote) send(op Op, rate int) (<-chan struct{}, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.id++
	done := make(chan struct{})
	r.done[r.id] = done
	if err := r.commands.Encode(Command{ID: r.id, Op: op, Rate: rate}); err != nil {
		return nil, fmt.Errorf("worker %d: %w", r.Config.Number, err)
	}
	return done, nil
}

func (r *Remote) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	return fmt.Errorf("worker %d has ended", r.Config.Number)
}

// Close has the worker quit and waits until its last report is in. A process that does not is killed.
func (r *Remote) Close() error {
	_, _ = r.send(Quit, 0)
	if r.cmd == nil {
		<-r.ended
	} else {
		select {
		case <-r.ended:
		case <-time.After(30 * time.Second):
			return errors.Join(errors.New("worker: it did not quit"), r.Kill())
		}
	}
	_ = r.hangUp.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// HasProcess says whether Stop, Continue and Kill work.
func (r *Remote) HasProcess() bool { return r.cmd != nil }

// Stop freezes the process.
func (r *Remote) Stop() error { return r.signal(syscall.SIGSTOP) }

// Continue lets a frozen process go on.
func (r *Remote) Continue() error { return r.signal(syscall.SIGCONT) }

// Kill ends the process at once, and waits until what it had reported is in.
func (r *Remote) Kill() error {
	if err := r.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-r.ended
	_ = r.hangUp.Close()
	return nil
}

func (r *Remote) signal(s syscall.Signal) error {
	if r.cmd == nil {
		return ErrSharesProcess
	}
	return r.cmd.Process.Signal(s)
}

// Ended is closed when nothing more comes from the worker.
func (r *Remote) Ended() <-chan struct{} { return r.ended }
