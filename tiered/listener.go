package tiered

import "github.com/tandemcache/tandem/pubsub"

// listener is what the cache does with what the bus hears of one part, between one message and the next: no I/O, no user code.
type listener[V any] struct {
	c *Cache[V]
	p *part
}

var _ pubsub.Handler = listener[int]{}

// Begin starts a session: what L1 holds of the part is from before, and messages may have been missed since.
func (l listener[V]) Begin() {
	// Also missed may be that the cache has a new epoch. Before the session: a Get in between would put what it reads on the word
	// of the old epoch into the new session, whose proofs then vouch for it.
	l.p.gate.doubt()
	l.c.local.Begin(l.p.number)
	l.p.untrusted.drop()
	l.c.count.sessions.Add(1)
	l.c.watch.session(true, nil)
	l.c.reportSession()
}

// End leaves L1 without proof: what is in it is void, and what enters it is served for MaxStaleness.
func (l listener[V]) End(reason error) {
	l.c.local.End(l.p.number)
	l.p.untrusted.drop()
	l.c.watch.session(false, reason)
}

// Prove lets L1 be served for another MaxStaleness.
func (l listener[V]) Prove(at int64) {
	l.c.local.Prove(l.p.number, at)
	l.p.untrusted.prove(at)
	l.c.readyFor(l.p, heard)
}

// Message applies an invalidation, of whomever: also of this instance, for its order among the others' is known only here. It is
// counted then: whoever sees the number sees what came of it.
func (l listener[V]) Message(m pubsub.Message) {
	c := l.c
	switch m.Op {
	case pubsub.Invalidate:
		for _, key := range m.Keys {
			c.evict(key)
			c.waiters.tell(key, changed)
		}
		c.count.received.Add(uint64(len(m.Keys)))
		c.watch.received(m, c.bus.id(), c.redisTime(l.p))
	case pubsub.Tags:
		c.local.EvictTags(l.p.number, m.Keys...)
		c.count.received.Add(uint64(len(m.Keys)))
		c.watch.received(m, c.bus.id(), c.redisTime(l.p))
	case pubsub.All:
		l.flush()
		c.count.received.Add(1)
		c.watch.received(m, c.bus.id(), c.redisTime(l.p))
	case pubsub.Wake:
		if m.Outcome == pubsub.Filled {
			c.waiters.tell(m.Keys[0], newValue)
		} else {
			c.waiters.tell(m.Keys[0], gaveUp)
		}
	case pubsub.Beat, pubsub.Ask, pubsub.Ack:
	}
}

// Unreadable forgets everything: it may have been an invalidation, of a release that writes another format.
func (l listener[V]) Unreadable(err error) {
	l.flush()
	l.c.count.unreadable.Add(1)
	l.c.logger.Log(levelWarn, "unreadable", "tandem: a message cannot be read, dropping L1", "cache", l.c.name, "error", err)
}

// flush drops L1 and doubts the epoch; the heartbeat that it asks for brings the new one.
func (l listener[V]) flush() {
	l.p.gate.doubt()
	l.c.local.Flush(l.p.number)
	l.c.bus.hub.Kick(l.p.number)
}

// Beat opens or closes L2. What has to be repeated on a server that is new is pending before L2 opens, so that this
// instance does not read there what it has invalidated.
func (l listener[V]) Beat(b pubsub.BeatReport) {
	n := l.c.nodeAt(b.Node)
	if b.Err == nil && n == nil {
		b.Err = ErrClosed // the bus is
	}
	if b.Err == nil {
		l.p.home.Store(n) // before anything is repeated there: see part.start
	}
	_, known := l.p.gate.known()
	switch {
	case b.Err != nil:
	case b.Moved || !known: // what was confirmed before the first heartbeat, nobody knows by which server
		l.c.moved(l.p, b.Moved)
	default:
		l.p.journal.trim(b.Sent)
	}
	l.p.gate.report(b, n)
	l.c.reportBeat(l.p, b)
	if b.Err == nil {
		l.c.readyFor(l.p, taken)
		select {
		case l.p.redisBack <- struct{}{}:
		default:
		}
	}
}
