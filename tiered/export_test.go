package tiered

import (
	"context"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/local"
	"github.com/tandemcache/tandem/remote"
)

var exampleServer *miniredis.Miniredis

// ExampleRedis is the address of the examples' Redis: 127.0.0.1:6379 where a program runs, an embedded one here.
var ExampleRedis = sync.OnceValue(func() string {
	m, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	exampleServer = m
	return m.Addr()
})

func stopExampleRedis() {
	if exampleServer != nil {
		exampleServer.Close()
	}
}

// clusterPartitions is how many a cache has in a cluster that is not told.
const clusterPartitions = DefaultPartitions

// What tests look at behind a cache, each in the partition of a key.

func gateOf[V any](c *Cache[V], key string) *gate           { return c.part(key).gate }
func pendingOf[V any](c *Cache[V], key string) *pending     { return c.part(key).pending }
func journalOf[V any](c *Cache[V], key string) *journal     { return c.part(key).journal }
func untrustedOf[V any](c *Cache[V], key string) *untrusted { return c.part(key).untrusted }
func channelOf[V any](c *Cache[V], key string) string       { return c.part(key).topic.Channel }

// gatesOf are those of all partitions.
func gatesOf[V any](c *Cache[V]) []*gate {
	gates := make([]*gate, len(c.parts))
	for i, p := range c.parts {
		gates[i] = p.gate
	}
	return gates
}

// isDeaf reports whether no partition has a session.
func isDeaf[V any](c *Cache[V]) bool {
	for i := range c.parts {
		if c.local.Proof(i) != mono.Never {
			return false
		}
	}
	return true
}

// keeps reports whether what is read from Redis is kept, in all partitions.
func keeps[V any](c *Cache[V]) bool {
	for _, g := range gatesOf(c) {
		if !g.look().keep {
			return false
		}
	}
	return true
}

// l1PartOf is the key's partition in L1.
func l1PartOf[V any](c *Cache[V], key string) int { return c.part(key).number }

func ticketOf[V any](c *Cache[V], key string) local.Ticket {
	return c.local.Ticket(l1PartOf(c, key), key)
}

func proofOf[V any](c *Cache[V], key string) int64 { return c.local.Proof(l1PartOf(c, key)) }

// listenerOf is whom the bus tells of the key's partition.
func listenerOf[V any](c *Cache[V], key string) listener[V] { return listener[V]{c, c.part(key)} }

// deafen makes the cache hear nothing of the keys' partitions any more, whatever Redis publishes. Nobody tells L1 that it does not.
func deafen[V any](c *Cache[V], keys ...string) {
	done := map[*part]bool{}
	for _, key := range keys {
		if p := c.part(key); !done[p] {
			c.mu.Lock()
			leave := c.leave[p.number]
			c.mu.Unlock()
			leave()
			done[p] = true
		}
	}
}

// takeOver is another server that becomes master of the key's partition.
func takeOver[V any](c *Cache[V], key string, kept bool) { c.moved(c.part(key), kept) }

// What the cache talks through with the node that has the key.

func breakerOf[V any](c *Cache[V], key string) *breaker    { return &nodeOf(c, key).breaker }
func readsOf[V any](c *Cache[V], key string) *remote.Store { return nodeOf(c, key).reads }

// dataOf and controlOf are the clients of all nodes.
func dataOf[V any](c *Cache[V]) (all []*redis.Client) {
	for _, n := range c.allNodes() {
		all = append(all, n.of.data.Client)
	}
	return all
}

func controlOf[V any](c *Cache[V]) (all []*redis.Client) {
	for _, n := range c.allNodes() {
		all = append(all, n.of.control.Client)
	}
	return all
}

// nodeOf is nil in a cluster before the first heartbeat.
func nodeOf[V any](c *Cache[V], key string) *node { return c.part(key).home.Load() }

// reportMove tells the gates of all partitions that another server has taken over.
func reportMove[V any](c *Cache[V]) {
	for _, g := range gatesOf(c) {
		known, _ := g.known()
		b := goodBeat(mono.Now(), remote.EpochText(known.epoch))
		b.RedisNow, b.Moved = known.redisNow, true
		g.report(b, known.node)
	}
}

// away reports whether Redis is not believed about anything.
func away[V any](c *Cache[V]) bool {
	for _, g := range gatesOf(c) {
		if g.look().open {
			return false
		}
	}
	return true
}

// groupOf is a batch without members.
func groupOf(ctx context.Context, c *Cache[int], b *budget) *group[int] {
	return &group[int]{c: c, ctx: ctx, budget: b}
}

// sessionsOf is how many sessions a bus has had.
func sessionsOf(b *Bus) uint64 { return b.hub.(interface{ Sessions() uint64 }).Sessions() }

// unconnected is what a heartbeat needs of a cache, and nothing else.
func unconnected(bound time.Duration) *Cache[int] {
	p := &part{gate: newGate(bound), journal: newJournal(1), pending: newPending(1, make(chan struct{}, 1)), redisBack: make(chan struct{}, 1)}
	p.readyHas.Store(readySigns)
	h := &host{}
	return &Cache[int]{parts: []*part{p}, bus: &Bus{only: h}, nodes: []*node{{of: h}}}
}

// membersAt are the members of a group that has looked at their gates.
func membersAt[V any](c *Cache[V], fs []*flight[V]) []*member[V] {
	ms := membersOf(fs)
	for _, m := range ms {
		m.o = c.look(m.key)
	}
	return ms
}

// newest returns a copy of the flight of key that may be joined.
func (f *flights[V]) newest(key string) *struct{ started, waiting bool } {
	s := f.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lanes[key]
	if l == nil || l.newest == nil {
		return nil
	}
	return &struct{ started, waiting bool }{l.newest.started, l.newest.waiting}
}

// alone is a flight of key that has just started.
func alone(c *Cache[int], key string) *flight[int] {
	return &flight[int]{key: key, ctx: context.Background(), load: c.opts.Load, ticket: c.ticket(key)}
}
