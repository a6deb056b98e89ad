// Package tiered is a two-tier cache for services that share a Redis: a read looks in the process first (L1), then in Redis
// (L2); a miss is loaded once in the fleet and written to both; an invalidation on any instance evicts the others' copies.
//
//	users, err := tiered.New(rdb, "users", tiered.Options[User]{
//		Load: func(ctx context.Context, id string) (User, error) { return db.User(ctx, id) },
//	})
//	defer users.Close()
//
//	u, err := users.Get(ctx, "42")    // L1, then Redis, then Load
//	err = users.Invalidate(ctx, "42") // after a commit: gone everywhere
//
// # The contract
//
// An old value is one that was read from the source before the Set or Invalidate in question began.
//
//   - One load: concurrent Gets of a missing key cause one load in the process, and one in the fleet while Redis answers.
//     An invalidation starts a new one.
//   - Own writes: once Set or Invalidate has returned nil, no Get that starts later on that instance returns an old value,
//     not even by joining a load under way.
//   - Bounded staleness: on every other instance the same holds for Gets that start more than MaxStaleness later, whatever
//     happens to connections, subscribers, Redis or the scheduler in between. Normally the lag is one hop of pub/sub.
//   - No resurrection: a load that began before an invalidation does not leave its result in Redis, nor, past
//     MaxStaleness, in any process.
//   - Redis is optional: without it a Get costs its load, and one RedisTimeout until the outage is known.
//   - Nothing lost in silence: a Set or Invalidate that Redis did not confirm returns ErrPending, has evicted the local copy,
//     and is repeated in the background.
//   - Bad data is a miss: what cannot be read in Redis is counted, logged, and replaced by a load.
//
// InvalidateTags and InvalidateAll promise for every entry concerned what Invalidate does for one.
//
// Where MaxStaleness is too long for other instances, as for a permission that is revoked, InvalidateAndWait returns when none of
// them serves an old value any more.
//
// It holds on these conditions: Invalidate is called after the source has committed; loaders read what was committed last,
// not a replica that lags; and all instances have the same MaxStaleness.
//
// Outside the contract are: what Redis had confirmed and lost with its master, if the instance that issued it dies or is cut
// off before it can repeat it; a Redis that hides INFO replication and comes back from an old snapshot, or fails over
// between two heartbeats; and a pause of the whole machine in which the monotonic clock stands still (a suspended or
// migrated virtual machine).
package tiered

// How it works, for who changes it.
//
// Every read takes a ticket before it reads; an eviction voids it. Every fill of Redis needs the lease that was taken before
// the load; an invalidation deletes it. (One by tag makes the fill fail, if the value turns out to have the tag.) Everything in
// L1 belongs to a session of the subscription, which must prove several
// times within MaxStaleness that it hears what is published; without proof L1 is not used. The packages local, remote and
// pubsub document these three in turn.
//
// What Redis says is believed while it takes heartbeats, on connections to the very server that takes them. A server that
// takes another's place is told apart by its replication id: where it may lack writes, the cache starts a new epoch, and
// each instance repeats what it invalidated since its last heartbeat.
