package tiered

import (
	"time"

	"github.com/tandemcache/tandem/internal/mono"
)

// Stats counts what a Cache did since New. The counters only grow; they are read one after the other, so that two that
// belong together may be apart by what happened meanwhile.
type Stats struct {
	LocalHits    uint64 // Gets answered by L1, "not found" included
	LocalMisses  uint64 // Gets that L1 did not answer
	LocalBytes   int64  // estimated heap of L1 now
	LocalLimit   int64  // Options.LocalBytes
	RemoteHits   uint64 // reads answered by Redis
	RemoteMisses uint64 // reads for which Redis had nothing
	Joined       uint64 // Gets that shared a read or load already under way

	RemoteBytesRead    uint64 // of entries that Redis has sent
	RemoteBytesWritten uint64 // of entries that Redis has stored

	Loads      uint64        // calls of a loader
	LoadErrors uint64        // loads that failed, "not found" not included
	LoadTime   time.Duration // that loads took, those of the same time added up
	NotFound   uint64        // loads that found that the key does not exist
	LeaseWaits uint64        // times that a load waited for another instance's
	Fills      uint64        // loaded values stored in Redis
	Refused    uint64        // loaded values that an invalidation kept out of Redis
	Unstored   uint64        // loaded values that cannot be stored: too large, not encodable, or a bad TTL of Options.TTLFor
	BadEntries uint64        // entries in Redis that could not be used: corrupt, foreign, of another type, too large

	Refreshes        uint64 // values past RefreshAfter that were loaded in the background; Loads counts each call for them
	RefreshErrors    uint64 // of which failed, or brought what cannot be stored
	RefreshUnchanged uint64 // of which brought what was there
	RefreshSkipped   uint64 // refreshes put off because as many as may run at once did
	Stale            uint64 // Gets answered with an expired value, because the load failed or took longer than SoftTimeout

	Sets        uint64        // Sets sent to Redis
	Invalidated uint64        // keys and tags that this instance invalidated
	Received    uint64        // keys and tags whose invalidation was heard on the bus, its own included
	Tracked     uint64        // keys dropped from L1 because Redis had another value or none, or did not say: see Options.Tracking
	Unreadable  uint64        // messages on the bus that could not be read; each drops L1
	Sessions    uint64        // subscriptions that began, in a Redis Cluster those of each partition; each drops its part of L1
	Untrusted   time.Duration // in which L1 served only what was loaded within MaxStaleness, for want of a proof; the mean of the partitions

	Commands    uint64 // commands sent to Redis for this cache, heartbeats not included
	RedisErrors uint64 // of which failed

	ServerChanges uint64 // times that Redis may have lost what it had confirmed: a failover, a restart; once for each partition
	Replayed      uint64 // keys and tags whose invalidation was repeated because of that
	BreakerOpened uint64 // times that reads were kept from a Redis that did not answer them

	Audited    uint64 // entries of L1 that an audit has compared with what Redis has
	Diverged   uint64 // of which were served for longer than MaxStaleness although Redis had a later value: see Options.AuditEvery
	Unobserved uint64 // events that Options.Observer was too slow for
}

// Stats returns the counters.
func (c *Cache[V]) Stats() Stats {
	u := c.local.Usage()
	n := &c.count
	s := Stats{
		LocalHits: u.Hits, LocalMisses: u.Misses, LocalBytes: u.Bytes, LocalLimit: u.Limit,
		RemoteHits: n.remoteHits.Load(), RemoteMisses: n.remoteMisses.Load(), Joined: n.joined.Load(),
		Loads: n.loads.Load(), LoadTime: time.Duration(n.loadTime.Load()),
		LoadErrors: n.loadErrors.Load(), NotFound: n.notFound.Load(),
		LeaseWaits: n.leaseWaits.Load(), Fills: n.fills.Load(), Refused: n.refused.Load(),
		Unstored: n.unstored.Load(), BadEntries: n.badEntries.Load(),
		Refreshes: n.refreshes.Load(), RefreshErrors: n.refreshErrors.Load(), RefreshUnchanged: n.unchanged.Load(),
		RefreshSkipped: n.refreshSkipped.Load(), Stale: n.stale.Load(),
		Sets: n.sets.Load(), Invalidated: n.invalidated.Load(), Received: n.received.Load(),
		Tracked: n.tracked.Load(), Unreadable: n.unreadable.Load(), Sessions: n.sessions.Load(), Untrusted: c.untrustedTime(),
		RedisErrors: n.redisErrors.Load(), Replayed: n.replayed.Load(),
		Audited: n.audited.Load(), Diverged: n.diverged.Load(), Unobserved: c.watch.unobserved(),
	}
	for _, p := range c.parts {
		s.ServerChanges += p.gate.moved()
	}
	all := c.traffic()
	s.Commands, s.RemoteBytesRead, s.RemoteBytesWritten = all.commands, all.bytesRead, all.bytesWritten
	s.BreakerOpened = all.breakerOpened
	return s
}

// Health says how a Cache stands now; in a Redis Cluster, how the worst of its partitions does.
type Health struct {
	// Ready says that Ready returns at once: the cache has heard itself and Redis has taken a write, whatever has become of
	// that since. Closed says that it is closed.
	Ready, Closed bool
	// LocalTrusted says that this instance has proven within MaxStaleness that it hears invalidations. If not, L1 serves
	// only what was loaded within MaxStaleness.
	LocalTrusted bool
	// RemoteTrusted says that Redis took a heartbeat within MaxStaleness, and did not take over from another one within
	// MaxStaleness before. If not, values are loaded and not stored in Redis.
	RemoteTrusted bool
	// Tracking says that Redis tells this instance of every change now: see Options.Tracking, without which it is false.
	Tracking bool
	// BreakerOpen says that Redis does not answer reads although it takes heartbeats, and is left alone but for a probe.
	BreakerOpen bool
	// ProofAge is how long ago the instance last heard itself, zero if it never did in this session.
	ProofAge time.Duration
	// RedisError is why the last heartbeat failed, nil if it did not. It wraps pubsub.ErrNoPermission where that is what has to be
	// changed. In a cluster it may wrap pubsub.ErrUnsupportedServer, and is also why the number of partitions could not be read or
	// written, which comes before heartbeats.
	RedisError error
	// PendingKeys is the number of keys and tags whose invalidation Redis has not confirmed; PendingAll says that it is all of them.
	PendingKeys int
	PendingAll  bool

	// Queues, and how many are in each now: keys that are being read or loaded, reads from Redis that wait to share a round
	// trip, loads that wait for Options.MaxLoads, invalidations that wait to be sent with others, and events that wait for
	// Options.Observer.
	Flights, ReadsWaiting, LoadsWaiting, InvalidationsWaiting, EventsWaiting int
}

// Health returns the state now. A service is ready to serve in any state: what is missing costs speed, not truth.
func (c *Cache[V]) Health() Health {
	var h Health
	if proof := c.proof(); proof != mono.Never {
		h.ProofAge = time.Duration(mono.Now() - proof)
		h.LocalTrusted = h.ProofAge <= c.opts.MaxStaleness
	}
	h.RemoteTrusted = true
	for _, p := range c.parts {
		o := p.look()
		h.RemoteTrusted = h.RemoteTrusted && o.open
		if h.RedisError == nil {
			h.RedisError = o.err
		}
		// Of a node that has no part any more nobody asks, and nothing would ever close its breaker.
		if n := p.home.Load(); n != nil {
			h.BreakerOpen = h.BreakerOpen || n.breaker.isOpen()
		}
	}
	h.Tracking = c.foreign.works()
	h.PendingKeys, h.PendingAll = c.pendingSize()
	h.Ready, h.Closed = c.unready.Load() == 0, c.closed.Load()
	h.Flights, h.ReadsWaiting, h.LoadsWaiting = c.flights.underway(), 0, int(c.count.loadsWaiting.Load())
	for _, n := range c.allNodes() {
		h.ReadsWaiting += n.reads.Waiting()
		h.InvalidationsWaiting += n.gather.size()
	}
	h.EventsWaiting = c.watch.waiting()
	return h
}
