package pubsub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/mono"
)

// errNoNode is why nothing is heard of a partition.
var errNoNode = errors.New("no node of the cluster is known to have the slot")

const (
	// idleFor is for how long a node has no partition before it is given up.
	idleFor = time.Minute
	// topologyPause is the least time from one question for the topology to the next, whatever is refused meanwhile.
	topologyPause = 200 * time.Millisecond
)

// searchSoon has the partitions without a node looked at. It does not wait.
func (c *Cluster) searchSoon() {
	select {
	case c.search <- struct{}{}:
	default:
	}
}

// route finds a node for each partition that has topics and is without one, and gives up nodes that have none, until Stop.
//
// To look costs nothing, so whoever comes to be without a node is looked for one at once. What costs something has pauses of its
// own: to connect to a node, see receiveLoop; to ask one again that has refused a partition, see give; and to ask for the topology.
func (c *Cluster) route() {
	var look backoff
	var asked time.Time // when the topology was asked for
	blind := false      // there is none
	again := time.NewTimer(maxBackoff)
	defer again.Stop()
	tidy := time.NewTicker(c.idleFor / 4)
	defer tidy.Stop()
	for {
		select {
		case <-c.search:
			if blind { // then a look would connect to nodes
				continue
			}
			look.reset()
		case <-again.C:
		case <-tidy.C:
			c.tidy()
			continue
		case <-c.ctx.Done():
			return
		}
		found := c.place()
		blind = found.blind
		wait := look.next()
		if found.outdated {
			switch pause := topologyPause - time.Since(asked); {
			case pause <= 0:
				asked = time.Now()
				c.opts.Router.ReloadState(c.ctx)
			case !blind:
				wait = min(wait, pause)
			}
		}
		again.Stop()
		if found.missing {
			again.Reset(wait)
		}
	}
}

// tidy gives up the nodes that have had no partition for a while.
func (c *Cluster) tidy() {
	for _, addr := range c.idle() {
		c.opts.Gone(addr)
	}
}

func (c *Cluster) idle() (addrs []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for addr, s := range c.shards {
		if len(s.parts) == 0 && mono.Now()-s.unused > int64(c.idleFor) && !c.closed {
			s.endLocked()
			delete(c.shards, addr)
			c.places.Delete(addr)
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// placement is what place has found.
type placement struct {
	missing  bool // some partition has no connection
	outdated bool // the topology is likely to be old
	blind    bool // nothing is known of it
}

// place gives nodes to partitions.
func (c *Cluster) place() (found placement) {
	for _, p := range c.homeless() {
		ctx, cancel := context.WithTimeout(c.ctx, allowance(c.interval()))
		client, err := c.opts.Router.MasterForKey(ctx, p.probe)
		cancel()
		if err != nil {
			c.logger.Log(slog.LevelWarn, "no node", "tandem: no node of the cluster is known to have a slot", "reason", err)
			c.absent(p, err)
			return placement{missing: true, outdated: true, blind: true}
		}
		placed, doubtful := c.give(p, client.Options().Addr)
		found.missing, found.outdated = found.missing || !placed, found.outdated || doubtful
	}
	return found
}

// absent notes why there is no node for p.
func (c *Cluster) absent(p *part, reason error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.on == nil {
		p.reason = reason
	}
}

// reportAbsent reports to the members of partitions without a node, as often as heartbeats are reported to others.
func (c *Cluster) reportAbsent() {
	for sleep(c.ctx, c.interval()) {
		c.tellAbsent()
	}
}

func (c *Cluster) tellAbsent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := mono.Now()
	for _, p := range c.parts {
		if p.on != nil || c.closed {
			continue
		}
		err := errNoNode
		if p.reason != nil {
			err = fmt.Errorf("%w: %w", errNoNode, Explain(p.reason))
		}
		for _, ch := range p.topics {
			tellEach(ch.members, BeatReport{Err: err, Sent: now, Received: now}, nil)
		}
	}
}

// homeless returns the partitions with topics that have no node, or one without a connection.
func (c *Cluster) homeless() []*part {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*part
	for _, p := range c.parts {
		if len(p.topics) > 0 && (p.on == nil || p.on.conn == nil) {
			out = append(out, p)
		}
	}
	return out
}

// give hands p to the node at addr, and reports whether that has a connection. What is doubtful is the topology: it names the node
// that has just refused p, or one that cannot be connected to. To hand p over to the former all the same, after a pause, is what
// shows whether it has it, and costs that node one command. If p is astray, the pause is for whatever node is named.
func (c *Cluster) give(p *part, addr string) (placed, doubtful bool) {
	client := c.opts.Node(addr)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || client == nil || len(p.topics) == 0 {
		return true, false
	}
	if p.on != nil {
		if p.on.conn != nil {
			return true, false
		}
		if p.on.addr == addr {
			return false, p.on.failing
		}
		p.on.dropLocked(p)
	}
	if (p.left == addr || p.astray) && mono.Now() < p.again {
		return false, true
	}
	s := c.shards[addr]
	if s == nil {
		s = newShard(c, addr, client)
		c.shards[addr] = s
		c.places.Store(addr, s)
		c.done.Go(s.receiveLoop)
		c.done.Go(s.beatLoop)
		c.done.Go(func() { s.acks.loop(s.ctx, client, redis.Pipeliner.SPublish, c.interval) })
	}
	s.takeLocked(p)
	return s.conn != nil, s.failing
}
