//go:build linux

package fleet

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// quitWithin bounds how long a process takes to close its instances.
const quitWithin = time.Minute

// Process is a process with instances. One call of a method at a time.
type Process struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	send  *gob.Encoder
	read  *gob.Decoder
	ended chan error
}

// Start starts a process, whose instances are not ready before the first [Process.Ready] has returned.
func Start(cfg Config) (*Process, error) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), workerEnv+"=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, outOfChild, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout = outOfChild
	p := &Process{cmd: cmd, in: in, send: gob.NewEncoder(in), read: gob.NewDecoder(out), ended: make(chan error, 1)}
	started := make(chan error)
	go func() {
		// The parent whose death Linux reports to a child is the thread that started it, which therefore must stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		_ = outOfChild.Close()
		started <- err
		if err == nil {
			err = cmd.Wait()
			_ = out.Close()
			p.ended <- err
		}
	}()
	if err := <-started; err != nil {
		return nil, errors.Join(fmt.Errorf("fleet: %w", err), out.Close())
	}
	if err := p.send.Encode(cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("fleet: %w", err), p.Close())
	}
	return p, nil
}

// Ready waits until every instance is. It is called once.
func (p *Process) Ready() error {
	_, err := p.receive()
	return err
}

// Look collects garbage and says how the instances are.
func (p *Process) Look() (State, error) {
	r, err := p.do(command{Op: look})
	return r.State, err
}

// Storm has the first instance invalidate, and returns when it is over.
func (p *Process) Storm(s Storm) (Sent, error) {
	r, err := p.do(command{Op: storm, Storm: s})
	return r.Sent, err
}

// CPU returns the CPU time that the process has used.
func (p *Process) CPU() (time.Duration, error) {
	r, err := p.do(command{Op: use})
	return r.CPU, err
}

func (p *Process) do(c command) (report, error) {
	if err := p.send.Encode(c); err != nil {
		return report{}, fmt.Errorf("fleet: %w", err)
	}
	return p.receive()
}

func (p *Process) receive() (report, error) {
	var r report
	if err := p.read.Decode(&r); err != nil {
		return report{}, fmt.Errorf("fleet: the process does not report: %w", err)
	}
	if r.Failed != "" {
		return report{}, errors.New("fleet: " + r.Failed)
	}
	return r, nil
}

// Close has the process close its instances, waits for its end, and kills it if that takes too long.
func (p *Process) Close() error {
	err := p.in.Close()
	select {
	case e := <-p.ended:
		return errors.Join(err, e)
	case <-time.After(quitWithin):
		_ = p.cmd.Process.Kill()
		return errors.Join(err, errors.New("fleet: the process did not quit"), <-p.ended)
	}
}
