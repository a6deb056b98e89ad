package tiered

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// proxy stands between instances and one node. It passes on one command after the other, and what the node says.
type proxy struct {
	target   string
	listener net.Listener
	hook     *atomic.Pointer[func(cmd string, args []string) error]
	done     sync.WaitGroup

	mu     sync.Mutex // protects what follows
	refuse bool
	links  map[*proxyLink]struct{}
}

func newProxy(target string, hook *atomic.Pointer[func(cmd string, args []string) error]) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{target: target, listener: l, hook: hook, links: make(map[*proxyLink]struct{})}
	p.done.Go(p.accept)
	return p, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// setRefuse makes the proxy close every connection, and each new one at once.
func (p *proxy) setRefuse(refuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = refuse
	if refuse {
		for l := range p.links {
			l.close()
		}
	}
}

// end waits for what a hook holds up.
func (p *proxy) end() {
	_ = p.listener.Close()
	p.setRefuse(true)
	p.done.Wait()
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.done.Go(func() { p.serve(client) })
	}
}

func (p *proxy) serve(client net.Conn) {
	node, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = client.Close()
		return
	}
	l := &proxyLink{proxy: p, client: client, node: node, over: make(chan struct{})}
	defer l.close()
	p.mu.Lock()
	refuse := p.refuse
	if !refuse {
		p.links[l] = struct{}{}
	}
	p.mu.Unlock()
	if refuse {
		return
	}
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.links, l)
	}()
	var back sync.WaitGroup
	back.Go(l.replies)
	l.commands()
	l.close()
	back.Wait()
}

// proxyLink is one connection through a proxy.
type proxyLink struct {
	proxy        *proxy
	client, node net.Conn
	closing      sync.Once
	over         chan struct{}

	mu         sync.Mutex // held while the client is written to; protects what follows
	owed       int        // replies that the node has yet to give
	paid       chan struct{}
	subscribed bool // from here on the node says what it wants
}

func (l *proxyLink) close() {
	l.closing.Do(func() {
		close(l.over)
		_ = l.client.Close()
		_ = l.node.Close()
	})
}

// commands passes commands on until one of the two sides, or a hook, ends the connection.
func (l *proxyLink) commands() {
	from := bufio.NewReader(l.client)
	for {
		frame, err := readFrame(from)
		if err != nil {
			return
		}
		words, err := wordsOf(frame)
		if err != nil {
			return
		}
		cmd := strings.ToUpper(words[0])
		if hook := l.proxy.hook.Load(); hook != nil {
			if err := (*hook)(cmd, words[1:]); err != nil {
				if errors.Is(err, io.EOF) || !l.answer("-"+err.Error()+"\r\n") {
					return
				}
				continue
			}
		}
		l.expect(cmd)
		if _, err := l.node.Write(frame); err != nil {
			return
		}
	}
}

func (l *proxyLink) expect(cmd string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.owed++
	if strings.HasSuffix(cmd, "SUBSCRIBE") {
		l.subscribed = true
	}
}

// answer replies in the node's place, after what it owes.
func (l *proxyLink) answer(reply string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.owed > 0 && !l.subscribed {
		paid := make(chan struct{})
		l.paid = paid
		l.mu.Unlock()
		select {
		case <-paid:
		case <-l.over:
		}
		l.mu.Lock()
		select {
		case <-l.over:
			return false
		default:
		}
	}
	_, err := io.WriteString(l.client, reply)
	return err == nil
}

// replies passes on what the node says.
func (l *proxyLink) replies() {
	defer l.close()
	from := bufio.NewReader(l.node)
	for {
		frame, err := readFrame(from)
		if err != nil || !l.pass(frame) {
			return
		}
	}
}

func (l *proxyLink) pass(frame []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if frame[0] != '>' { // what comes unasked
		l.owed--
	}
	if l.owed <= 0 && l.paid != nil {
		close(l.paid)
		l.paid = nil
	}
	_, err := l.client.Write(frame)
	return err == nil
}

// readFrame reads one whole message of Redis' protocol.
func readFrame(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	n := 0
	switch line[0] {
	case '$', '=', '!', '*', '~', '>', '%', '|':
		if n, err = strconv.Atoi(string(bytes.TrimSpace(line[1:]))); err != nil {
			return nil, fmt.Errorf("%.20q: %w", line, err)
		}
	}
	switch line[0] {
	case '$', '=', '!':
		if n < 0 {
			return line, nil
		}
		begin := len(line)
		line = append(line, make([]byte, n+2)...)
		_, err := io.ReadFull(r, line[begin:])
		return line, err
	case '%':
		n *= 2
	case '|': // comes before what it belongs to
		n = 2*n + 1
	}
	for range n {
		element, err := readFrame(r)
		if err != nil {
			return nil, err
		}
		line = append(line, element...)
	}
	return line, nil
}

// wordsOf takes a command apart.
func wordsOf(frame []byte) ([]string, error) {
	r := bufio.NewReader(bytes.NewReader(frame))
	line, err := r.ReadString('\n')
	if err != nil || line[0] != '*' {
		return nil, fmt.Errorf("%.20q is no command: %w", frame, err)
	}
	var words []string
	for {
		word, err := readFrame(r)
		if errors.Is(err, io.EOF) && len(words) > 0 {
			return words, nil
		}
		if err != nil {
			return nil, err
		}
		_, text, _ := bytes.Cut(word, []byte("\r\n"))
		words = append(words, string(bytes.TrimSuffix(text, []byte("\r\n"))))
	}
}
