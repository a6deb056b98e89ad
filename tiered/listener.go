package tiered

import "github.com/tandemcache/tandem/pubsub"

// listener is what the cache does with what the bus hears, between one message and the next: no I/O, no user code.
type listener[V any] struct{ c *Cache[V] }

var _ pubsub.Handler = listener[int]{}

// Begin starts a session: what L1 holds is from before, and messages may have been missed since.
func (l listener[V]) Begin() {
	l.c.count.sessions.Add(1)
	// Also missed may be that the cache has a new epoch. Before the session: a Get in between would put what it reads on the word
	// of the old epoch into the new session, whose proofs then vouch for it.
	l.c.gate.doubt()
	l.c.local.Begin()
	l.c.untrusted.drop()
	l.c.watch.session(true, nil)
	l.c.reportSession()
}

// End leaves L1 without proof: what is in it is void, and what enters it is served for MaxStaleness.
func (l listener[V]) End(reason error) {
	l.c.local.End()
	l.c.untrusted.drop()
	l.c.watch.session(false, reason)
}

// Prove lets L1 be served for another MaxStaleness.
func (l listener[V]) Prove(at int64) {
	l.c.local.Prove(at)
	l.c.untrusted.prove(at)
	l.c.readyFor(heard)
}

// Message applies an invalidation, of whomever: also of this instance, for its order among the others' is known only here.
func (l listener[V]) Message(m pubsub.Message) {
	c := l.c
	switch m.Op {
	case pubsub.Invalidate:
		c.count.received.Add(uint64(len(m.Keys)))
		for _, key := range m.Keys {
			c.evict(key)
			c.waiters.tell(key, changed)
		}
		c.watch.received(m, c.bus.id(), c.redisTime())
	case pubsub.Tags:
		c.count.received.Add(uint64(len(m.Keys)))
		c.local.EvictTags(m.Keys...)
		c.watch.received(m, c.bus.id(), c.redisTime())
	case pubsub.All:
		c.count.received.Add(1)
		l.flush()
		c.watch.received(m, c.bus.id(), c.redisTime())
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
	l.c.count.unreadable.Add(1)
	l.flush()
	l.c.logger.Log(levelWarn, "unreadable", "tandem: a message cannot be read, dropping L1", "cache", l.c.name, "error", err)
}

// flush drops L1 and doubts the epoch; the heartbeat that it asks for brings the new one.
func (l listener[V]) flush() {
	l.c.gate.doubt()
	l.c.local.Flush()
	l.c.bus.kick()
}

// Beat opens or closes L2. What has to be repeated on a server that is new is pending before L2 opens, so that this
// instance does not read there what it has invalidated.
func (l listener[V]) Beat(b pubsub.BeatReport) {
	_, known := l.c.gate.known()
	switch {
	case b.Err != nil:
	case b.Moved || !known: // what was confirmed before the first heartbeat, nobody knows by which server
		l.c.moved(b.Moved)
	default:
		l.c.journal.trim(b.Sent)
	}
	l.c.gate.report(b)
	l.c.reportBeat(b.Err)
	if b.Err == nil {
		l.c.readyFor(taken)
		select {
		case l.c.redisBack <- struct{}{}:
		default:
		}
	}
}
