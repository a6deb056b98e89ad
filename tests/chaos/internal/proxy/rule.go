package proxy

import (
	"bytes"
	"time"
)

// Kind is a set of kinds of connections.
type Kind uint8

// The kinds. A connection becomes a Bus with the first SUBSCRIBE on it, before that command is delivered.
const (
	Data Kind = 1 << iota
	Bus
	AnyKind = Data | Bus
)

// Direction is a set of directions.
type Direction uint8

// The directions: Up is what clients send, Down what the server sends.
const (
	Up Direction = 1 << iota
	Down
	Both = Up | Down
)

// Rule says what happens to bytes. The zero Rule lets them pass.
type Rule struct {
	// Hold keeps them back until the rule changes. Connections are accepted, and stay.
	Hold bool
	// Delay keeps each read's worth of bytes back for as long.
	Delay time.Duration
}

// rules is a table by kind and direction, replaced as a whole under the proxy's lock.
type rules [2][2]Rule

func (r *rules) set(k Kind, d Direction, to Rule) {
	for i := range r {
		for j := range r[i] {
			if k&(1<<i) != 0 && d&(1<<j) != 0 {
				r[i][j] = to
			}
		}
	}
}

func (r *rules) get(bus bool, d Direction) Rule {
	kind, dir := 0, 0
	if bus {
		kind = 1
	}
	if d == Down {
		dir = 1
	}
	return r[kind][dir]
}

// subscribes finds the command that makes a connection a Bus, also where two reads share it.
type subscribes struct{ tail []byte }

var command = []byte("subscribe\r\n") // psubscribe and ssubscribe end in it, too

func (s *subscribes) seen(p []byte) bool {
	s.tail = append(s.tail, p...)
	found := bytes.Contains(bytes.ToLower(s.tail), command)
	if keep := len(command) - 1; len(s.tail) > keep {
		s.tail = append(s.tail[:0], s.tail[len(s.tail)-keep:]...)
	}
	return found
}
