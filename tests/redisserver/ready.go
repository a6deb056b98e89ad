package redisserver

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

const (
	readyEvery   = 5 * time.Millisecond   // between two questions
	answerWithin = 250 * time.Millisecond // for one question
)

// waitReady asks the server at addr until it answers, and returns its version. It
// fails when the process ends first, or after timeout.
func (p *process) waitReady(addr string, timeout time.Duration) (version string, err error) {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	for {
		version, err = ask(addr, p.cmd.Process.Pid)
		if err == nil {
			return version, nil
		}
		if p.ended() { // asked apart: where several cases are ready, select picks any
			return "", fmt.Errorf("redisserver: ended before it answered: %v", p.cmd.ProcessState)
		}
		select {
		case <-deadline.C:
			return "", fmt.Errorf("redisserver: not ready after %s: %w", timeout, err)
		case <-p.done:
		case <-tick.C:
		}
	}
}

// ask sends PING and INFO to the server at addr. Answering is not enough: it must be
// the process pid, and not a foreign server that was faster to take the port. (By hand,
// because a go-redis client waits and retries where this is to ask again soon.)
func ask(addr string, pid int) (version string, err error) {
	conn, err := net.DialTimeout("tcp", addr, answerWithin)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, "PING\r\nINFO server\r\n"); err != nil {
		return "", err
	}
	r := bufio.NewReader(conn)
	pong, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	if pong != "+PONG\r\n" { // such as LOADING
		return "", fmt.Errorf("answer to PING: %q", pong)
	}
	info, err := readInfo(r)
	if err != nil {
		return "", err
	}
	if got := info["process_id"]; got != strconv.Itoa(pid) {
		return "", fmt.Errorf("the process that answers is %s, not %d", got, pid)
	}
	return info["redis_version"], nil
}

// readInfo reads one bulk reply that consists of name:value lines.
func readInfo(r *bufio.Reader) (map[string]string, error) {
	header, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	size, isBulk := strings.CutPrefix(strings.TrimSpace(header), "$")
	n, err := strconv.Atoi(size)
	if !isBulk || err != nil || n < 0 {
		return nil, errors.New("answer to INFO: " + strconv.Quote(header))
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	info := make(map[string]string)
	for line := range strings.Lines(string(body)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info, nil
}
