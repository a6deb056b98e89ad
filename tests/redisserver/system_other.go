//go:build !linux

package redisserver

import (
	"fmt"
	"os/exec"
	"strconv"
)

// dieWithParent does nothing: only Linux offers that. See guardOrphan.
func dieWithParent(*exec.Cmd) {}

// guardOrphan starts a shell that kills pid if this process dies first: it reads from
// a pipe whose other end is here, and a pipe that ends without a line means that we
// are gone. release ends the shell.
func guardOrphan(pid int) (release func(), err error) {
	guard := exec.Command("sh", "-c", `read -r line || kill -9 "$1"`, "sh", strconv.Itoa(pid))
	line, err := guard.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	if err := guard.Start(); err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	return func() {
		_, _ = line.Write([]byte("\n")) // fails only if the guard is gone already
		_ = guard.Wait()
	}, nil
}

// standsStill cannot be asked here: SIGSTOP is taken to act at once.
func standsStill(int) bool { return true }
