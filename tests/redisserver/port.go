package redisserver

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are taken from below the range that systems use for outgoing connections (from
// 32768 on Linux): a client that dials a dead server again and again would else now and
// then be given that server's port as its own. The bus port of a cluster node, 10000
// higher, is below that range as well.
const (
	loopback    = "127.0.0.1"
	firstPort   = 20000
	ports       = 2768
	guardOffset = 3000 // above ports, so that guards and servers never meet

	portAttempts = 200
)

var errNoPort = errors.New("redisserver: found no free port")

// port is a port that belongs to one server of this package. The guard, a listener on
// another port, is what says so to other processes, also while the server is down.
type port struct {
	number int
	guard  net.Listener
}

func (p *port) String() string { return strconv.Itoa(p.number) }

func (p *port) release() error { return p.guard.Close() }

// reservePort finds a port that is free and that nobody else has reserved.
func reservePort() (*port, error) {
	for range portAttempts {
		number := firstPort + rand.IntN(ports)
		if p := tryPort(number); p != nil {
			return p, nil
		}
	}
	return nil, errNoPort
}

// tryPort returns nil if the port is taken.
func tryPort(number int) *port {
	guard, err := listen(number + guardOffset)
	if err != nil {
		return nil
	}
	probe, err := listen(number)
	if err != nil {
		_ = guard.Close()
		return nil
	}
	_ = probe.Close()
	return &port{number: number, guard: guard}
}

func listen(number int) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(number)))
}
