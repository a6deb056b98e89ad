package redisclient

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/mono"
)

// minBulk is the longest string that every Client reads: more than any message of the bus, and than any reply that is
// not a value.
const minBulk = 2 << 20

var errReset = errors.New("the connection was dialled before a reset")

// Client is a client of tandem's own. Its methods may be called concurrently.
type Client struct {
	*redis.Client
	conns conns
}

// Reset closes every connection. Calls on their way fail, subscriptions end, and later calls dial anew: that is what makes
// a client follow a server that has moved, when its old place still answers.
func (c *Client) Reset() { c.conns.reset() }

// AllowBulk lets strings of up to n bytes be read. Longer ones than any call has allowed, or than 2 MiB, break the
// connection with ErrTooLong before memory is taken for them.
func (c *Client) AllowBulk(n int) {
	for {
		old := c.conns.maxBulk.Load()
		if int64(n) <= old || c.conns.maxBulk.CompareAndSwap(old, int64(n)) {
			return
		}
	}
}

// conns are a client's open connections.
type conns struct {
	maxBulk atomic.Int64

	mu     sync.Mutex // protects what follows
	resets uint64
	open   map[*conn]struct{}
}

// dial opens a connection and keeps track of it. One that was on its way during a reset leads to where the others led.
func (s *conns) dial(ctx context.Context, dial dialFunc, network, addr string) (net.Conn, error) {
	s.mu.Lock()
	resets := s.resets
	s.mu.Unlock()
	raw, err := dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resets != resets {
		_ = raw.Close()
		return nil, errReset
	}
	c := &conn{Conn: raw, of: s, frames: frames{maxBulk: &s.maxBulk}}
	c.heard.Store(mono.Never)
	s.open[c] = struct{}{}
	return c, nil
}

func (s *conns) reset() {
	s.mu.Lock()
	s.resets++
	open := s.open
	s.open = make(map[*conn]struct{})
	s.mu.Unlock()
	for c := range open {
		_ = c.Close()
	}
}

func (s *conns) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}
