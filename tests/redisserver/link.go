package redisserver

import (
	"io"
	"net"
	"sync"

	"github.com/tandemcache/tandem/tests/port"
)

const (
	// busOffset is how far above its own port a node listens for the others.
	busOffset = 10000

	// Each message on the nodes' own connections begins with a header that names its sender, in clear.
	busHeader   = 80
	senderBegin = 40
)

// link is where the other nodes of a cluster reach one: a listener in this process, which passes on what they say to the node's
// bus port, unless whoever says it is cut off from it. Each of two nodes dials the other, so there are two connections.
type link struct {
	listener net.Listener
	done     sync.WaitGroup

	mu     sync.Mutex // protects what follows
	target string
	closed bool
	cut    map[string]bool // the ids of those who are
	open   map[*linkConn]struct{}
}

type linkConn struct {
	near, far net.Conn
	from      string // "" as long as it has not said
}

func newLink() (*link, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(port.Loopback, "0"))
	if err != nil {
		return nil, err
	}
	l := &link{listener: listener, cut: make(map[string]bool), open: make(map[*linkConn]struct{})}
	l.done.Go(l.accept)
	return l, nil
}

func (l *link) port() string {
	_, port, _ := net.SplitHostPort(l.listener.Addr().String()) // what a listener says can be split
	return port
}

// lead says where the node listens.
func (l *link) lead(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.target = addr
}

func (l *link) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.done.Go(func() { l.serve(near) })
	}
}

func (l *link) serve(near net.Conn) {
	c := &linkConn{near: near}
	if !l.add(c) {
		_ = near.Close()
		return
	}
	defer l.drop(c)
	header := make([]byte, busHeader)
	if _, err := io.ReadFull(near, header); err != nil {
		return
	}
	if !l.dial(c, string(header[senderBegin:])) {
		return
	}
	if !l.isCut(c) {
		if _, err := c.far.Write(header); err != nil {
			return
		}
	}
	var back sync.WaitGroup
	back.Go(func() { l.pass(c, c.near, c.far) })
	l.pass(c, c.far, c.near)
	l.drop(c)
	back.Wait()
}

// add keeps track of c, and reports whether that is still wanted.
func (l *link) add(c *linkConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.target == "" {
		return false
	}
	l.open[c] = struct{}{}
	return true
}

// dial connects c to the node, in the name of from.
func (l *link) dial(c *linkConn, from string) bool {
	l.mu.Lock()
	target := l.target
	l.mu.Unlock()
	far, err := net.DialTimeout("tcp", target, nodeTimeout)
	if err != nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.open[c]; !ok { // dropped meanwhile
		_ = far.Close()
		return false
	}
	c.far, c.from = far, from
	return true
}

// pass sends to dst what src says; while c is cut it is lost, as between machines that have lost each other.
func (l *link) pass(c *linkConn, dst, src net.Conn) {
	defer l.drop(c)
	buf := make([]byte, 16<<10)
	for {
		n, err := src.Read(buf)
		if err != nil {
			return
		}
		if l.isCut(c) {
			continue
		}
		if _, err := dst.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (l *link) isCut(c *linkConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cut[c.from]
}

// set cuts the node with this id off, or lets it through again: on new connections, as the old ones have lost their place.
func (l *link) set(id string, cut bool) {
	l.mu.Lock()
	was := l.cut[id]
	l.cut[id] = cut
	l.mu.Unlock()
	if was && !cut {
		l.dropAll(func(c *linkConn) bool { return c.from == id })
	}
}

func (l *link) drop(c *linkConn) { l.dropAll(func(other *linkConn) bool { return other == c }) }

func (l *link) dropAll(which func(*linkConn) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		if !which(c) {
			continue
		}
		delete(l.open, c)
		_ = c.near.Close()
		if c.far != nil {
			_ = c.far.Close()
		}
	}
}

// close may be called more than once.
func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	_ = l.listener.Close()
	l.dropAll(func(*linkConn) bool { return true })
	l.done.Wait()
}

// Partition parts these nodes from all others: neither side hears the other on the nodes' own connections, whichever of those
// were cut before. What goes to the nodes' client ports goes on, and so does replication, which goes there. It needs
// ClusterOptions.Links.
func (c *Cluster) Partition(side ...*Node) {
	near := make(map[*Node]bool)
	for _, n := range side {
		near[n] = true
	}
	for _, a := range c.nodes {
		for _, b := range c.nodes {
			a.link.set(b.id, near[a] != near[b])
		}
	}
}

// Heal ends what Partition began.
func (c *Cluster) Heal() { c.Partition() }
