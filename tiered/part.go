package tiered

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/remote"
)

// part is a partition of a cache: on a single Redis there is one, with all keys, and in a cluster as many as the Bus says. A
// partition is heard of by a way of its own, and has an epoch of its own; so whether L1 and L2 may be believed about a key is
// a question to its part, and what becomes of one part leaves the others as they are.
//
// The part of a key is always the same. The node is that of the part's last good heartbeat, and another one after a failover
// or when the slot was migrated.
type part struct {
	number  int
	topic   pubsub.Topic
	gate    *gate
	pending *pending
	journal *journal

	untrusted *untrusted

	// home is where changes are sent: the node of the last good heartbeat, of a single Redis the only one there is. Nil before
	// the first heartbeat in a cluster.
	home atomic.Pointer[node]

	beatFailing atomic.Bool   // see reportBeat
	readyHas    atomic.Uint32 // what it has of readySigns
	repeating   atomic.Bool   // what is pending is being repeated
	redisBack   chan struct{} // a word for repeat at each good heartbeat; room for one
}

// newParts returns the parts of a cache.
func (c *Cache[V]) newParts() []*part {
	parts := make([]*part, c.keys.Partitions())
	for i := range parts {
		p := &part{
			number: i, gate: newGate(c.opts.MaxStaleness), pending: newPending(len(parts), c.somePending), journal: newJournal(len(parts)),
			untrusted: newUntrusted(c.opts.MaxStaleness), redisBack: make(chan struct{}, 1),
		}
		p.topic = pubsub.Topic{
			Partition: i, Channel: c.keys.Channel(i, c.bus.db), VersionKey: c.keys.Epoch(i), VersionTTL: versionTTL,
			Bound: c.opts.MaxStaleness, Handler: listener[V]{c, p},
		}
		if c.opts.Acknowledge {
			p.topic.Registry = c.keys.Instances(i)
		}
		if s := c.bus.only; s != nil {
			p.home.Store(c.node(s))
		}
		parts[i] = p
	}
	return parts
}

// part returns the part that key is in.
func (c *Cache[V]) part(key string) *part { return c.parts[c.keys.Partition(key)] }

// look is what key's part knows now.
func (c *Cache[V]) look(key string) opening { return c.part(key).look() }

// look is what is known now, before anything is read on its word. Nobody else looks at the gate: an opening without cleared would
// have entries with tags refused.
func (p *part) look() opening {
	cleared := p.pending.cleared.Load()
	o := p.gate.look()
	o.cleared = cleared
	return o
}

// isPending reports whether an invalidation of key is pending.
func (c *Cache[V]) isPending(key string) bool { return c.part(key).pending.has(key) }

// errNoNode is why a change is not sent: no heartbeat has told yet which node has the slot.
var errNoNode = errors.New("no node of the cluster is known to have the slot")

// nodeFor returns where changes of the part go. Before the first heartbeat it waits for it, as long as ctx allows or until it fails.
func (p *part) nodeFor(ctx context.Context) (*node, error) {
	for {
		if n := p.home.Load(); n != nil {
			return n, nil
		}
		o := p.look()
		if o.wait == nil {
			if n := p.home.Load(); n != nil {
				return n, nil
			}
			return nil, errors.Join(errNoNode, o.err)
		}
		select {
		case <-o.wait:
		case <-ctx.Done():
			return nil, errors.Join(errNoNode, ctx.Err())
		}
	}
}

// share is what one part has of a change: some of its keys, or nil where it is about the part as a whole.
type share struct {
	*part
	keys []string
}

// byPart divides keys among their parts, in the order in which the parts come first.
func (c *Cache[V]) byPart(keys []string) (shares []share) {
	if len(c.parts) == 1 {
		return []share{{c.parts[0], keys}}
	}
	at := make(map[*part]int)
	for _, key := range keys {
		p := c.part(key)
		i, ok := at[p]
		if !ok {
			i, at[p] = len(shares), len(shares)
			shares = append(shares, share{part: p})
		}
		shares[i].keys = append(shares[i].keys, key)
	}
	return shares
}

// whole returns parts as shares.
func whole(parts []*part) []share {
	shares := make([]share, len(parts))
	for i, p := range parts {
		shares[i].part = p
	}
	return shares
}

func numbers(shares []share) []int {
	all := make([]int, len(shares))
	for i, s := range shares {
		all[i] = s.number
	}
	return all
}

// errMoved is why a change is not sent: the part has another node than when it was looked for.
var errMoved = errors.New("another node has taken the slot over meanwhile")

// start is journal.begin for a change that is about to be sent to n. The node is looked at last:
//
//  1. a change of X's, where the part is, has not been sent yet;
//  2. a heartbeat finds the part on Y. First it is Y that changes go to, and second the journal is taken, to be repeated there;
//  3. the change is sent to X, which confirms it, as it does not know yet;
//  4. where begin was before 2, the journal refuses the change, and it is repeated. Where it was after it, the node is Y by then, and
//     nothing is sent: the journal would take it for one that Y has confirmed, and forget it with Y's next heartbeat.
func (p *part) start(n *node) (moves uint64, err error) {
	moves = p.journal.begin()
	if p.home.Load() != n {
		return 0, errMoved
	}
	return moves, nil
}

// readyFor notes a sign, and is ready when all parts have all.
func (c *Cache[V]) readyFor(p *part, sign uint32) {
	if old := p.readyHas.Or(sign); old != readySigns && old|sign == readySigns && c.unready.Add(-1) == 0 {
		close(c.ready)
	}
}

// proof returns the proof of the part that was proven longest ago; mono.Never if one is without any.
func (c *Cache[V]) proof() int64 {
	oldest := c.local.Proof(0)
	for i := 1; i < len(c.parts) && oldest != mono.Never; i++ {
		if at := c.local.Proof(i); at == mono.Never || at < oldest {
			oldest = at
		}
	}
	return oldest
}

// flushLocal drops L1.
func (c *Cache[V]) flushLocal() {
	for i := range c.parts {
		c.local.Flush(i)
	}
}

// evictTags drops the local copies of what has one of these tags.
func (c *Cache[V]) evictTags(tags []string) {
	for i := range c.parts {
		c.local.EvictTags(i, tags...)
	}
}

// untrustedTime is the time without proof, the mean of the parts'.
func (c *Cache[V]) untrustedTime() time.Duration {
	var sum time.Duration
	for _, p := range c.parts {
		sum += p.untrusted.total() / time.Duration(len(c.parts))
	}
	return sum
}

// pendingOf returns what is pending of all parts.
func (c *Cache[V]) pendingSize() (keys int, all bool) {
	for _, p := range c.parts {
		n, everything := p.pending.size()
		keys, all = keys+n, all || everything
	}
	return keys, all
}

// storedAs are the options of the stores of this cache.
func (c *Cache[V]) storedAs() remote.Options {
	return remote.Options{
		Keys: c.keys, Schema: c.schema, DB: c.bus.db, MaxBytes: c.opts.MaxEntryBytes, Pipelines: c.opts.Pipelines,
		Shared: c.opts.NoLease, Tagged: c.opts.Tags != nil, Observe: c.watch.remote(),
	}
}
