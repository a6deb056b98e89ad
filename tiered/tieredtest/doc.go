// Package tieredtest gives tests a cache, or a fleet of instances of one, on a Redis inside the test's process, and lets
// them break what is between the two. Nothing has to be installed, nothing listens on a port.
//
//	var source tieredtest.Source[string]
//	fleet := tieredtest.NewFleet(t, 3, tiered.Options[string]{Load: source.Load})
//	a, b := fleet.Cache(0), fleet.Cache(1)
//
//	fleet.Partition(1)                   // b neither hears nor reaches Redis
//	err := a.Invalidate(ctx, "42")       // b does not hear of it
//	fleet.FastForward(2 * time.Second)   // MaxStaleness: from now on b must not serve the old value
//	fleet.Heal(1)
//	fleet.Settle()                       // b is connected again and has heard everything
//
// One cache is one line:
//
//	cache := tieredtest.New(t, tiered.Options[string]{Load: source.Load})
//
// # Time
//
// All of it works in a bubble of testing/synctest, where an hour takes no time and what happens when is exact:
//
//	synctest.Test(t, func(t *testing.T) {
//		fleet := tieredtest.NewFleet(t, 3, tiered.Options[string]{Load: source.Load})
//		...
//		time.Sleep(time.Hour)
//	})
//
// The fleet must be made in the bubble in which it is used; channels and timers of one cannot be used in another. Timers
// that go-redis shares among all clients of a process are not touched by the fleet's clients; those that a test makes
// itself, with another Dialer, may do so when their pool is exhausted.
//
// Outside a bubble time is the machine's. Settle waits for what has to happen, and FastForward makes Redis' clock jump. A
// machine that is too busy for a few heartbeats looks like a fault then, and an instance reconnects: a longer MaxStaleness
// and RedisTimeout allow for that.
//
// # What is real
//
// The caches are those of package tiered, with their own clients, subscriptions and heartbeats. The Redis is miniredis: it
// runs the same scripts (but for the heartbeat's where that would change nothing), and knows nothing of replication, memory
// or persistence. The network is memory: it takes no time unless Delay says so, and loses nothing unless a connection is
// broken.
//
// What the caches log is in the test's output. go-redis logs connections that fail by itself; redis.SetLogger stops it.
package tieredtest
