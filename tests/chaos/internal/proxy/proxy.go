package proxy

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/tandemcache/tandem/tests/port"
)

const (
	dialTimeout   = 2 * time.Second
	listenTimeout = 10 * time.Second
)

// ErrClosed is returned by the methods of a proxy that was closed.
var ErrClosed = errors.New("proxy: closed")

// Proxy listens on a port of its own and connects to one server. Its methods may be called concurrently.
type Proxy struct {
	port   *port.Port
	target string

	mu       sync.Mutex // protects what follows
	listener net.Listener
	conns    map[*link]struct{}
	rules    rules
	changed  chan struct{} // closed and replaced when rules change
	closed   bool
	done     sync.WaitGroup
}

// New starts a proxy to target. Whoever started it must close it.
func New(target string) (*Proxy, error) {
	free, err := port.Reserve()
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p := &Proxy{port: free, target: target, conns: map[*link]struct{}{}, changed: make(chan struct{})}
	if err := p.listen(); err != nil {
		return nil, errors.Join(err, free.Release())
	}
	return p, nil
}

// Addr is where the proxy listens, also while it refuses.
func (p *Proxy) Addr() string { return p.port.Addr() }

// Set gives a rule to connections of these kinds in these directions, those that exist and those to come.
func (p *Proxy) Set(k Kind, d Direction, r Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules.set(k, d, r)
	close(p.changed)
	p.changed = make(chan struct{})
}

// Pass lets everything pass, and listens if it did not.
func (p *Proxy) Pass() error {
	p.Set(AnyKind, Both, Rule{})
	deadline := time.Now().Add(listenTimeout)
	for {
		err := p.listen()
		if err == nil || errors.Is(err, ErrClosed) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Refuse stops listening and resets every connection.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	p.mu.Unlock()
	p.Reset(AnyKind)
}

// Reset resets the existing connections of these kinds, on both sides.
func (p *Proxy) Reset(k Kind) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if c.kind()&k != 0 {
			c.reset()
		}
	}
}

// Conns returns how many connections of these kinds there are.
func (p *Proxy) Conns(k Kind) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for c := range p.conns {
		if c.kind()&k != 0 {
			n++
		}
	}
	return n
}

// Close resets everything and waits until no goroutine is left.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Refuse()
	p.done.Wait()
	_ = p.port.Release()
}

// listen does nothing if the proxy listens already.
func (p *Proxy) listen() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return ErrClosed
	case p.listener != nil:
		return nil
	}
	l, err := port.Listen(p.Addr())
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	p.listener = l
	p.done.Go(func() { p.acceptLoop(l) })
	return nil
}

func (p *Proxy) acceptLoop(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		c := newLink(p, conn.(*net.TCPConn))
		p.mu.Lock()
		refused := p.listener != l
		if !refused {
			p.conns[c] = struct{}{}
			p.done.Go(c.run)
		}
		p.mu.Unlock()
		if refused {
			c.reset()
		}
	}
}

func (p *Proxy) forget(c *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// rule returns what holds now, and what is closed when that changes.
func (p *Proxy) rule(bus bool, d Direction) (Rule, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rules.get(bus, d), p.changed
}
