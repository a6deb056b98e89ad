package faults

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// kind is what a connection of an instance is for, as far as it has shown.
type kind int

const (
	control kind = iota // heartbeats and writes, and whatever has not shown yet
	data                // has sent a read
	bus                 // has subscribed
	kinds
)

// stream is what happens to bytes in one direction.
type stream int

const (
	pass    stream = iota
	swallow        // they are lost, and all that follow on this connection for ever: a peer that is gone without a word
	stall          // they are not read, until the rule changes
)

// rule is what happens to the connections of one kind.
type rule struct {
	up, down stream
	delay    time.Duration // of each piece that comes down
	// drop loses a piece on its way up, and nothing else.
	drop func(piece []byte) bool
	// answer, where it returns something, replies in the server's place.
	answer func(piece []byte) *reply
}

type reply struct {
	bytes   []byte
	forever bool // again and again, until the connection is closed
}

// proxy stands between an instance and its server. A piece is what one read of a socket brings: on the way up it is one
// command, since neither side pipelines.
type proxy struct {
	target   string
	listener net.Listener
	accepted atomic.Int64
	done     sync.WaitGroup

	mu      sync.Mutex // protects what follows
	rules   [kinds]rule
	refuse  bool
	links   map[*link]struct{}
	changed chan struct{} // closed when a rule changes
}

// link is one connection through the proxy.
type link struct {
	proxy          *proxy
	client, server net.Conn
	kind           atomic.Int32
	lost           [2]atomic.Bool // up, down: something was swallowed
	writing        sync.Mutex     // held while writing to the client
	over           chan struct{}
	closing        sync.Once
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{target: target, listener: l, links: make(map[*link]struct{}), changed: make(chan struct{})}
	p.done.Go(p.acceptLoop)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) close() {
	_ = p.listener.Close()
	p.cut(control, data, bus)
	p.done.Wait()
}

// set changes the rule for some kinds of connections.
func (p *proxy) set(r rule, of ...kind) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range of {
		p.rules[k] = r
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// heal lets everything pass. Connections on which bytes were lost stay silent.
func (p *proxy) heal() {
	p.setRefuse(false)
	p.set(rule{}, control, data, bus)
}

// setRefuse makes the proxy close every connection, and each new one at once.
func (p *proxy) setRefuse(refuse bool) {
	p.mu.Lock()
	p.refuse = refuse
	p.mu.Unlock()
	if refuse {
		p.cut(control, data, bus)
	}
}

// cut closes the connections of some kinds.
func (p *proxy) cut(of ...kind) {
	p.mu.Lock()
	var links []*link
	for l := range p.links {
		for _, k := range of {
			if kind(l.kind.Load()) == k {
				links = append(links, l)
			}
		}
	}
	p.mu.Unlock()
	for _, l := range links {
		l.close()
	}
}

// open returns how many connections there are.
func (p *proxy) open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

func (p *proxy) acceptLoop() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.accepted.Add(1)
		p.done.Go(func() { p.serve(conn) })
	}
}

func (p *proxy) serve(conn net.Conn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = conn.Close()
		return
	}
	l := &link{proxy: p, client: conn, server: server, over: make(chan struct{})}
	p.mu.Lock()
	refuse := p.refuse
	if !refuse {
		p.links[l] = struct{}{}
	}
	p.mu.Unlock()
	if refuse {
		l.close()
		return
	}
	var both sync.WaitGroup
	both.Go(l.pumpUp)
	both.Go(l.pumpDown)
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

func (l *link) close() {
	l.closing.Do(func() {
		close(l.over)
		_ = l.client.Close()
		_ = l.server.Close()
	})
}

// rule returns what holds for the link now, and a channel that is closed when that may have changed.
func (l *link) rule() (rule, <-chan struct{}) {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	return l.proxy.rules[l.kind.Load()], l.proxy.changed
}

// await returns the rule once it does not stall the direction that which picks; false means that the link is closed.
func (l *link) await(which func(rule) stream) (rule, bool) {
	for {
		r, changed := l.rule()
		if which(r) != stall {
			return r, true
		}
		select {
		case <-changed:
		case <-l.over:
			return r, false
		}
	}
}

func up(r rule) stream   { return r.up }
func down(r rule) stream { return r.down }

func (l *link) pumpUp() {
	defer l.close()
	buf := make([]byte, 64<<10)
	for {
		n, err := l.client.Read(buf)
		if err != nil {
			return
		}
		l.recognise(buf[:n])
		r, ok := l.await(up)
		if !ok {
			return
		}
		if r.up == swallow {
			l.lost[0].Store(true)
		}
		if l.lost[0].Load() || (r.drop != nil && r.drop(buf[:n])) {
			continue
		}
		if r.answer != nil {
			if a := r.answer(buf[:n]); a != nil {
				if !l.reply(*a) {
					return
				}
				continue
			}
		}
		if _, err := l.server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// recognise learns from what the client sends what the connection is for.
func (l *link) recognise(piece []byte) {
	switch {
	case bytes.Contains(piece, []byte("\r\nsubscribe\r\n")):
		l.kind.Store(int32(bus))
	case bytes.Contains(piece, []byte("\r\nhget\r\n")):
		l.kind.Store(int32(data))
	}
}

func (l *link) reply(a reply) bool {
	l.writing.Lock()
	defer l.writing.Unlock()
	for {
		if _, err := l.client.Write(a.bytes); err != nil {
			return false
		}
		if !a.forever {
			return true
		}
	}
}

// deaf reports whether nothing that the server sends arrives.
func (l *link) deaf() bool {
	r, _ := l.rule()
	return l.lost[1].Load() || r.down == swallow
}

func (l *link) pumpDown() {
	defer l.close()
	buf := make([]byte, 64<<10)
	for {
		if _, ok := l.await(down); !ok {
			return
		}
		n, err := l.server.Read(buf)
		if err != nil {
			if l.deaf() {
				<-l.over // nor does it hear of that
			}
			return
		}
		r, ok := l.await(down)
		if !ok {
			return
		}
		if r.delay > 0 {
			timer := time.NewTimer(r.delay)
			select {
			case <-timer.C:
			case <-l.over:
				timer.Stop()
				return
			}
		}
		if r.down == swallow {
			l.lost[1].Store(true)
		}
		if l.lost[1].Load() {
			continue
		}
		l.writing.Lock()
		_, err = l.client.Write(buf[:n])
		l.writing.Unlock()
		if err != nil {
			return
		}
	}
}
