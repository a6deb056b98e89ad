//go:build unix

package redisserver

import (
	"fmt"
	"syscall"
	"time"
)

// pause freezes the process and waits until it stands still.
func (p *process) pause() error {
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	deadline := time.NewTimer(pauseTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !standsStill(p.cmd.Process.Pid) {
		select {
		case <-p.done:
			return ErrNotRunning
		case <-deadline.C:
			return fmt.Errorf("redisserver: still running %s after SIGSTOP", pauseTimeout)
		case <-tick.C:
		}
	}
	return nil
}

// resume lets a frozen process go on; it changes nothing for another.
func (p *process) resume() error { return p.signal(syscall.SIGCONT) }
