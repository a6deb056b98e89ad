package tieredtest

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// network is Redis and the links that lead to it. What is written waits in memory, however much it is: miniredis holds its
// lock while it hands a message to a subscriber, so one that does not read would stop all of it.
type network struct {
	redis  *miniredis.Miniredis
	server *server.Server

	mu     sync.Mutex // protects what follows and everything below: links, wires, streams
	down   bool
	ahead  time.Duration // how far Redis' clock is ahead of ours
	passed chan struct{} // closed when somebody has come back for more
	links  []*link
}

func newNetwork(n int) (*network, error) {
	net := &network{redis: miniredis.NewMiniRedis(), passed: make(chan struct{})}
	net.redis.ClockTTL(true)
	// Dial is what starts a server that does not listen.
	c, err := net.redis.Dial()
	if err != nil {
		return nil, fmt.Errorf("starting the embedded Redis: %w", err)
	}
	_ = c.Close()
	net.server = net.redis.Server()
	net.server.SetPreHook(net.steady)
	for range n {
		net.links = append(net.links, &link{net: net, changed: make(chan struct{}), wires: make(map[*wire]struct{})})
	}
	return net, nil
}

// setDown resets every connection, if it is true, and refuses new ones as long as it is.
func (n *network) setDown(down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = down
	for _, l := range n.links {
		if down {
			l.resetLocked()
		}
		l.changeLocked()
	}
}

// close ends everything. What is still connected is cut off, and what still connects is refused, if the links are healed:
// the dial of a client that was closed meanwhile would go on, and time in a bubble does not.
func (n *network) close() {
	n.setDown(true)
	n.redis.Close()
}

// now is Redis' time.
func (n *network) now() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return time.Now().UTC().Add(n.ahead)
}

// tick sets Redis' clock, if it is ahead of ours.
func (n *network) tick() {
	n.mu.Lock()
	ahead := n.ahead
	n.mu.Unlock()
	if ahead > 0 {
		n.redis.SetTime(n.now())
	}
}

func (n *network) passLocked() {
	close(n.passed)
	n.passed = make(chan struct{})
}

// link is the way of one instance to Redis, with what is wrong with it.
type link struct {
	net     *network
	cut     bool // nothing arrives
	deaf    bool // no subscription hears anything
	delay   time.Duration
	changed chan struct{} // closed when one of these changes
	wires   map[*wire]struct{}
	broken  time.Time // when a subscription last ended or became deaf
}

func (l *link) change(f func()) {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	f()
	for w := range l.wires {
		w.deafenLocked()
	}
	l.changeLocked()
}

func (l *link) changeLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
	for w := range l.wires {
		w.up.wakeLocked()
		w.down.wakeLocked()
	}
}

func (l *link) resetLocked() {
	for w := range l.wires {
		w.server.closeLocked(syscall.ECONNRESET)
	}
}

// dial connects as TCP does: it takes a round trip, is refused by a Redis that is down, and hangs if nothing arrives.
func (l *link) dial(ctx context.Context) (net.Conn, error) {
	w, err := l.connect(ctx)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "memory", Addr: address, Err: err}
	}
	l.net.server.ServeConn(w.server) // it has a lock of its own, under which it closes connections
	return w.client, nil
}

func (l *link) connect(ctx context.Context) (*wire, error) {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	if err := l.handshakeLocked(ctx); err != nil {
		return nil, err
	}
	w := newWire(l)
	l.wires[w] = struct{}{}
	return w, nil
}

func (l *link) handshakeLocked(ctx context.Context) error {
	began := time.Now()
	for {
		until := began.Add(2 * l.delay)
		if l.cut {
			until = time.Time{}
		} else if !time.Now().Before(until) {
			break
		}
		changed := l.changed
		l.net.mu.Unlock()
		wait(ctx.Done(), changed, until)
		l.net.mu.Lock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if l.net.down {
		return syscall.ECONNREFUSED
	}
	return nil
}

// wait returns when a channel is closed, or at a time unless that is zero.
func wait(a, b <-chan struct{}, until time.Time) {
	var due <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-a:
	case <-b:
	case <-due:
	}
}

// address is a number: a name would be looked up, with real sockets.
var address = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 6379}
