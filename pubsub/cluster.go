package pubsub

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/internal/partition"
	"github.com/tandemcache/tandem/internal/quiet"
)

// Cluster is what Bus is, on a Redis Cluster. Each topic is in a partition, and is heard from the node that owns the partition's
// slot: sharded channels, with a connection and heartbeats for each node. Its methods may be called concurrently.
//
// A partition that a node gives up, or refuses, ends the sessions of its own topics alone. Whatever is without a node, or has one
// that cannot be connected to, is looked for a node until it has one.
type Cluster struct {
	opts   ClusterOptions
	logger *quiet.Logger
	id     string

	questions questions
	places    sync.Map // the *shard of each node's address, for who does not have the lock

	ctx    context.Context //nolint:containedctx // the life of the goroutines, ended by Stop
	cancel context.CancelFunc
	done   sync.WaitGroup
	search chan struct{} // has room for one: some partition has no node

	bound, lastBound atomic.Int64 // as Bus has them
	idleFor          time.Duration
	writePatience    time.Duration // these two are the constants, but in tests

	// mu guards what follows and what shards have, and is held while a Handler runs.
	mu       sync.Mutex
	started  bool
	closed   bool
	parts    []*part
	shards   map[string]*shard // by the node's address
	joins    uint64
	sessions uint64
}

// ClusterOptions are what a Cluster is made with.
type ClusterOptions struct {
	// Router says which node has a slot. Required.
	Router Router
	// Table is the division into partitions. Required.
	Table partition.Table
	// Logger may be nil.
	Logger *slog.Logger
	// Node returns a client that leads to the node at addr and nowhere else: the same one each time until Gone. It stays the
	// caller's; nil says that there is none any more. Required.
	Node func(addr string) redis.UniversalClient
	// Redial closes every connection to the node at addr, see [Options].Redial. It may be nil.
	Redial func(addr string)
	// Gone says that the node at addr has not been used for a minute: its clients may be closed. It may be nil. It is never called
	// while Node is.
	Gone func(addr string)
}

// Router says which node has a slot. A *redis.ClusterClient is one.
type Router interface {
	// MasterForKey returns a client to the node that is taken for the master of key's slot. Nothing is sent through it.
	MasterForKey(ctx context.Context, key string) (*redis.Client, error)
	// ReloadState asks for the topology anew, in the background.
	ReloadState(ctx context.Context)
}

// part is a partition with the topics in it. It is guarded by the cluster's lock.
type part struct {
	ledger  // names do not change; registers has a lock of its own
	history history
	topics  map[string]*shardChannel

	on     *shard                // nil without a node
	home   atomic.Pointer[shard] // is on, for who does not have the lock
	last   *shard                // was on last
	take   uint64                // how often a node was given it
	left   string                // the address of the last node that did not have it any more
	astray bool                  // and a moment before it was another one: go-redis names any node for a slot that none has
	again  int64                 // by mono: that one, or if astray any, is not asked once more before
	retry  backoff               // up to again
	reason error                 // why there is no node
	// refused is why nobody lets its channels be subscribed to, if that is for the owner of the cluster to change. A heartbeat that
	// succeeds is worth nothing then.
	refused error
	// taken is when the last heartbeat was sent for which on has taken a write in this slot, and joined how many had joined then.
	taken  int64
	joined uint64
}

// shardChannel is a channel in a partition's slot. It is guarded by the cluster's lock.
type shardChannel struct {
	of         *part
	members    []*member // none of the private one
	subscribed bool      // on the connection of the part's shard
	begun      bool      // and the node is taken to publish there whatever is published in the slot: there is a session
	// heard is when the last heartbeat was sent that has come back in this session.
	heard  int64
	proved int64
}

// NewCluster returns a bus on a cluster. It connects to nodes as members join.
func NewCluster(opts ClusterOptions) *Cluster {
	if opts.Redial == nil {
		opts.Redial = func(string) {}
	}
	if opts.Gone == nil {
		opts.Gone = func(string) {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Cluster{
		opts: opts, logger: quiet.New(opts.Logger, time.Minute), id: newID(idBytes / 2), ctx: ctx, cancel: cancel,
		idleFor: idleFor, writePatience: writePatience,
		search: make(chan struct{}, 1), shards: make(map[string]*shard),
	}
	for i := range opts.Table.Count() {
		tag := "tandem:{" + opts.Table.Tag(i) + "}:"
		p := &part{topics: make(map[string]*shardChannel), taken: mono.Never}
		p.ledger = ledger{names: names{id: c.id, probe: tag + "probe:" + c.id, prefix: tag + "inst:", suffix: ":0"}, scripts: sharded}
		p.inbox = p.inboxOf(c.id)
		c.parts = append(c.parts, p)
	}
	return c
}

// ID is the bus' random name, the sender of this process's messages.
func (c *Cluster) ID() string { return c.id }

// Inbox is the bus' private channel in a partition.
func (c *Cluster) Inbox(partition int) string { return c.parts[partition].inbox }

// Sessions returns how many connections to nodes have been subscribed so far.
func (c *Cluster) Sessions() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sessions
}

// Kick asks for a heartbeat of the node that has the partition, now. It does not wait. A partition without a node is being looked
// for one anyway.
func (c *Cluster) Kick(partition int) {
	if s := c.parts[partition].home.Load(); s != nil {
		s.beatSoon()
	}
}

// Join makes a topic's Handler hear from the bus until leave is called. The topic's names must have the hash tag of its
// partition. It does not wait for a connection.
func (c *Cluster) Join(t Topic) (leave func(), err error) {
	if t.Bound <= 0 {
		return nil, fmt.Errorf("pubsub: Topic.Bound is %v, must be positive", t.Bound)
	}
	if t.Partition < 0 || t.Partition >= len(c.parts) {
		return nil, fmt.Errorf("pubsub: Topic.Partition is %d, there are %d", t.Partition, len(c.parts))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	c.joins++
	m := &member{Topic: t, place: c.joins}
	p := c.parts[t.Partition]
	ch := p.topics[t.Channel]
	isNew := ch == nil
	if isNew {
		ch = &shardChannel{of: p, heard: mono.Never, proved: mono.Never}
		p.topics[t.Channel] = ch
	}
	ch.members = append(ch.members, m)
	c.setBoundLocked()
	if !c.started {
		c.started = true
		c.done.Go(c.route)
		c.done.Go(c.reportAbsent)
	}
	switch {
	case ch.begun:
		m.Handler.Begin()
		p.on.beatSoon()
	case p.on == nil:
		c.searchSoon()
	case isNew:
		p.on.addLocked(t.Channel, ch)
	}
	return sync.OnceFunc(func() { c.leave(p, m) }), nil
}

func (c *Cluster) leave(p *part, m *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m.left = true
	ch := p.topics[m.Channel]
	for i, other := range ch.members {
		if other == m {
			ch.members = append(ch.members[:i:i], ch.members[i+1:]...)
			break
		}
	}
	c.setBoundLocked()
	if len(ch.members) > 0 {
		return
	}
	delete(p.topics, m.Channel)
	if p.on == nil {
		return
	}
	p.on.removeLocked(m.Channel)
	if len(p.topics) == 0 {
		p.on.dropLocked(p)
	}
}

// setBoundLocked is as Bus' own.
func (c *Cluster) setBoundLocked() {
	bound := time.Duration(0)
	for _, p := range c.parts {
		for _, ch := range p.topics {
			for _, m := range ch.members {
				if bound == 0 || m.Bound < bound {
					bound = m.Bound
				}
			}
		}
	}
	c.bound.Store(int64(bound))
	if bound > 0 {
		c.lastBound.Store(int64(bound))
	}
}

func (c *Cluster) interval() time.Duration { return intervalOf(c.bound.Load()) }

// Stop ends all sessions without waiting for the bus' goroutines, as [Bus.Stop] does.
func (c *Cluster) Stop() {
	c.mu.Lock()
	c.closed = true
	for _, s := range c.shards {
		s.endLocked()
	}
	c.mu.Unlock()
	c.cancel()
}

// Close is Stop, and waits for the bus' goroutines. It may be called more than once.
func (c *Cluster) Close() {
	c.Stop()
	c.done.Wait()
}

// Settle is [Bus.Settle] for t's partition.
func (c *Cluster) Settle(ctx context.Context, t Topic, timeout time.Duration) error {
	return c.forum(c.parts[t.Partition]).settle(ctx, t, timeout)
}

func (c *Cluster) forum(p *part) forum {
	f := forum{ledger: &p.ledger, questions: &c.questions, life: c.ctx, interval: c.interval, apart: c.apart}
	if s := p.home.Load(); s != nil {
		f.client = s.client
	}
	return f
}

// apart is Bus.apart.
func (c *Cluster) apart(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.done.Go(f)
	}
}

// Resign is [Bus.Resign] for t's registry.
func (c *Cluster) Resign(ctx context.Context, t Topic) {
	p := c.parts[t.Partition]
	s := c.lastOf(p)
	if s == nil {
		return
	}
	select {
	case <-s.beating: // one that is on its way could register it again
		defer func() { s.beating <- struct{}{} }()
	case <-ctx.Done():
		return
	}
	if !c.registered(p, t.Registry) && p.registers.remove(t.Registry) {
		_ = s.client.HDel(ctx, t.Registry, c.id).Err() // the best that can be done
	}
}

// lastOf returns the shard that has p, or had it last.
func (c *Cluster) lastOf(p *part) *shard {
	c.mu.Lock()
	defer c.mu.Unlock()
	return p.last
}

// registered reports whether a member of p is to be in a registry.
func (c *Cluster) registered(p *part, registry string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ch := range p.topics {
		for _, m := range ch.members {
			if m.Registry == registry {
				return true
			}
		}
	}
	return false
}

// Server is [Bus.Server] of the node at an address.
func (c *Cluster) Server(node string) (id string, known bool) {
	if s, ok := c.places.Load(node); ok {
		return s.(*shard).whereabouts.get()
	}
	return "", false
}

// Reached is [Bus.Reached] for a connection to the node at an address. Of a node without partitions nothing is known.
func (c *Cluster) Reached(node, id string) bool {
	if s, ok := c.places.Load(node); ok {
		return s.(*shard).berth.reached(id)
	}
	return true
}
