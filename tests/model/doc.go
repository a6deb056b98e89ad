// Package model is tandem's protocol as a transition system, and an explorer that visits every state which a bounded run of it
// can come to. In each it checks C2, C3 and C4 of the contract; for each safety mechanism it shows what happens without it.
//
// # What is in it
//
// One key, two or three instances, one or two writes, and a source that every load reads as it is committed. A state
// (state.go) is what the instances and Redis hold and what is on its way between them. A step (steps.go) is one atomic change:
// a script in Redis, a message heard, a reply received, a tick of time, a fault. The explorer (explore.go) makes every step
// that is possible in every state, breadth first, so a counterexample is a shortest one. Reads are not states: in each state
// a Get that would hit is judged (properties.go), and a flight carries the strictest demand of those who have joined it.
//
//	step                              production code
//	Start, Refresh, Join              tiered: flights.join, Cache.ticket; local: Store.Ticket, Store.Live
//	Look, WaitOver                    tiered: gate.look, Cache.awaitGate, the first lines of Cache.fetch
//	Read                              tiered: Cache.readRemote; remote: Store.Get
//	Acquire, Renew, Fill              remote/scripts/acquire.lua, renew.lua, fill.lua
//	Load                              the moment at which the loader reads the source
//	Finish                            tiered: Cache.putLocal, flights.finish; local: Store.Put
//	HitFind to HitLast                local: Store.lookup, reading by reading
//	Begin, Execute, Return            tiered: Cache.set, Cache.invalidate, Cache.InvalidateAll; their scripts
//	Return, if late                   tiered: Cache.late
//	Repeat, Confirm                   tiered: Cache.retry, pending.confirm
//	Beat, BeatReply                   pubsub: Bus.beat, beat.lua; tiered: gate.report; what follows a change of lineage
//	Deliver, Connect, Notice          pubsub: subscription.apply, Bus.endAll; tiered: listener
//	Stall, Failover, Restart          a replica that lags, its promotion; a server that comes back from a snapshot
//
// The faults: a subscription that dies half-open; a crash; a failover or restart that loses what was written last; an entry,
// a lease or the epoch gone from Redis; a request that fails, whose reply is lost, or that runs after its caller gave up (also
// a late fill and a late Set); a subscriber that Redis drops because it does not read. Connections are independent of one
// another: subscription, heartbeats and writes, and reads each have their own, and after a failover each finds the new master
// at its own time.
//
// # Time
//
// Ages in ticks, of which MaxStaleness is one or two. No instance is timely: a heartbeat, a message or a flight may take any
// number of ticks. Two assumptions are made: a call to Redis lasts less than a tick (RedisTimeout is a small part of
// MaxStaleness), and a Set's latest time to store is within the tick in which it began.
//
// # What is demanded
//
//   - C2 on the writing instance from the return on, also of ErrPending: the local copy is gone and L2 is not asked.
//   - C3 on the others when more than MaxStaleness has passed since nil was returned, or since a pending invalidation was
//     confirmed.
//   - C4 in Redis: no value that a reader would use is older than an invalidation which this dataset has seen.
//
// Exceptions, counted in the run so that they cannot grow unseen:
//
//   - A failover has lost a write, and its writer has died or has not got a heartbeat and the repetition through within
//     MaxStaleness of the failover ("lost write excused"). As soon as it does, the write counts anew.
//   - Redis ran a Set after a later write of another instance had begun, because its caller had given up on it: until its
//     repetition is confirmed, Redis' order holds, as in any register ("Set outrun by a later write"). A later write of the same
//     instance is pending as long as that can happen ("write pending for an earlier Set"), and has no exception.
//
// # What is left out
//
// Other keys, tags and stripes that keys share; expiry and TTLs; errors of the loader (a lease that is released is one that
// expires); messages to waiting flights (a flight that waits may ask again at any time, so a lost one changes nothing); the
// breaker and budgets beyond "a call may fail"; queued third flights, which have read nothing; a master that is cut off and
// goes on taking writes (the README's condition on min-replicas-max-lag); the bytes of envelopes and messages.
//
// # Keeping it up to date
//
// TestTheScripts runs every script of package remote on every small state of a Redis and compares answer and result with
// the model's (redis.go); TestTheRuleOfAHit does the same with local.Store. A change of a script or of the rule fails there
// until the model follows. The gate, joining, the journal and the lineage are not exported by tiered and pubsub: whoever
// changes gate.go, flight.go, pending.go or beat.lua changes bus.go, flights.go, writes.go or redis.go here.
//
// # Redundant mechanisms
//
// Without these the contract holds all the same, and a test asserts it:
//
//   - FirstEviction: it shortens the time in which the old value is served while the script runs.
//   - FlushOnEnd: the next session begins with a flush, and until then no proof comes that could keep an entry alive.
//   - OwnMessages: the writer has evicted after its script. They are applied because only their order among the others'
//     is that of Redis, and because skipping them would be one more rule.
//   - EpochInFill: an envelope carries its epoch and no reader of the new one uses it. The test in fill.lua saves Redis the
//     memory, and the next reader a lookup.
//   - ClockAfterProof: the contract counts from a Get's start, and a proof that is younger than the clock only vouches for
//     more. In that order a value would be returned longer after a pause in the middle of the lookup.
package model
