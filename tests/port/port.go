// Package port gives what listens in tests a port of 127.0.0.1 that is no other's, in this process or another, also while nobody
// listens on it: a server that is down for a while finds its port free again.
package port

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
	"time"
)

// Loopback is the host of all ports.
const Loopback = "127.0.0.1"

// Ports are taken from below the range that systems use for outgoing connections (from
// 32768 on Linux): a client that dials a dead server again and again would else now and
// then be given that server's port as its own. The bus port of a cluster node, 10000
// higher, is below that range as well.
const (
	first       = 20000
	ports       = 2768
	guardOffset = 3000 // above ports, so that guards and servers never meet

	attempts = 200

	patience = 10 * time.Second
)

var errNone = errors.New("port: found no free port")

// Port is a port that belongs to one server. The guard, a listener on another port, is what says so to other processes, also
// while the server is down.
type Port struct {
	Number int
	guard  net.Listener
}

// Addr returns the address, host and port.
func (p *Port) Addr() string { return addr(p.Number) }

// Use calls listen, which listens on a port that is the caller's. Where that is in use it tries again for a while: a process that
// this one is starting has a copy of every socket until it is a program of its own, also of a listener that was closed here in
// between.
func Use(listen func() error) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		err := listen()
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return err
		}
	}
}

// Listen listens at an address whose port is the caller's, see [Use].
func Listen(addr string) (l net.Listener, err error) {
	err = Use(func() error {
		l, err = net.Listen("tcp", addr)
		return err
	})
	return l, err
}

// Release gives the port back.
func (p *Port) Release() error { return p.guard.Close() }

// Reserve finds a port that is free and that nobody else has reserved. The caller must release it.
func Reserve() (*Port, error) {
	for range attempts {
		if p, err := Take(first + rand.IntN(ports)); err == nil {
			return p, nil
		}
	}
	return nil, errNone
}

// Take reserves this port, and returns an error if it is taken.
func Take(number int) (*Port, error) {
	guard, err := net.Listen("tcp", addr(number+guardOffset))
	if err != nil {
		return nil, fmt.Errorf("port: %w", err)
	}
	probe, err := net.Listen("tcp", addr(number))
	if err != nil {
		_ = guard.Close()
		return nil, fmt.Errorf("port: %w", err)
	}
	_ = probe.Close()
	return &Port{Number: number, guard: guard}, nil
}

func addr(number int) string { return net.JoinHostPort(Loopback, strconv.Itoa(number)) }
