package tiered

import (
	"context"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/remote"
)

// node is a Redis server as one cache uses it: a single Redis, or one of a cluster's.
type node struct {
	of     *host
	reads  *remote.Store // on the server's data client
	writes *remote.Store // on its control client
	// breaker keeps flights from a node whose connections do not work. Of one that is dead the parts' gates close as well, but
	// each at its own heartbeat.
	breaker breaker
	gather  gather
}

// node returns the cache's node of a server. It may be called under the lock of the hub: there is no I/O. Where servers come and go,
// each new one is when the cache lets those go whose clients the bus has closed.
func (c *Cache[V]) node(s *host) *node {
	c.nodesMu.Lock()
	defer c.nodesMu.Unlock()
	for _, n := range c.nodes {
		if n.of == s {
			return n
		}
	}
	opts := c.storedAs()
	n := &node{of: s, reads: remote.New(s.data, opts), writes: remote.New(s.control, opts)}
	s.data.AllowBulk(c.opts.MaxEntryBytes)
	n.gather.send = func(ctx context.Context, keys []string) error { return c.sendInvalidation(ctx, n, keys) }
	c.nodes = append(slices.DeleteFunc(c.nodes, c.retire), n)
	return n
}

// retire reports whether the server of n is gone, and keeps what was counted. What is still on its way there is not.
func (c *Cache[V]) retire(n *node) bool {
	if c.bus.known(n.of.addr) == n.of {
		return false
	}
	c.gone.add(n)
	return true
}

// traffic is what was sent to nodes.
type traffic struct{ commands, bytesRead, bytesWritten, breakerOpened uint64 }

func (t *traffic) add(n *node) {
	t.commands += n.reads.Commands() + n.writes.Commands()
	t.bytesRead += n.reads.BytesRead() + n.writes.BytesRead()
	t.bytesWritten += n.reads.BytesWritten() + n.writes.BytesWritten()
	t.breakerOpened += n.breaker.opened.Load()
}

// traffic is that with all nodes, those that are gone too.
func (c *Cache[V]) traffic() traffic {
	c.nodesMu.Lock()
	defer c.nodesMu.Unlock()
	sum := c.gone
	for _, n := range c.nodes {
		sum.add(n)
	}
	return sum
}

// nodeAt returns the node at an address that the hub has told, nil if the bus has closed it.
func (c *Cache[V]) nodeAt(addr string) *node {
	if s := c.bus.known(addr); s != nil {
		return c.node(s)
	}
	return nil
}

// allNodes returns the nodes that are not gone.
func (c *Cache[V]) allNodes() []*node {
	c.nodesMu.Lock()
	defer c.nodesMu.Unlock()
	return slices.Clone(c.nodes)
}

// trip takes the outcome of a flight's trip to a node.
func (c *Cache[V]) trip(n *node, key, what string, err error) {
	if err != nil {
		c.redisFailed(what, err)
	}
	if elsewhere(err) {
		c.bus.hub.Kick(c.part(key).number)
	}
	switch {
	case answered(err):
		n.breaker.worked()
	case !unreachable(err):
	case c.ctx.Err() == nil && n.breaker.failed(key):
		c.logger.Log(levelWarn, "breaker", "tandem: Redis does not answer reads, leaving it alone for a while",
			"cache", c.name, "node", n.of.addr, "error", err)
	}
}

// elsewhere reports whether an error says that another node has the key's slot, or may have: the next heartbeat finds out. No
// command is sent on to where an error points. What that node says of its other slots no heartbeat of this one covers, and it
// may have taken the place of one that had confirmed more than it has.
func elsewhere(err error) bool {
	for _, prefix := range []string{"MOVED ", "ASK ", "TRYAGAIN ", "CLUSTERDOWN "} {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return false
}
