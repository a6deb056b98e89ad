package model

// The configurations. Each is about one part of the protocol and leaves out what has no bearing on it, so that all of its
// states can be visited. Faults are budgets: so many in one run, at any time.

var (
	oneInvalidate = []Write{{0, Invalidate}}
	oneSet        = []Write{{0, Set}}
	oneAll        = []Write{{0, InvalidateAll}}
	setThenOther  = []Write{{0, Set}, {1, Invalidate}}
	setThenOwn    = []Write{{0, Set}, {0, Invalidate}}
	setThenSet    = []Write{{0, Set}, {0, Set}}
	setThenAll    = []Write{{0, Set}, {0, InvalidateAll}}
)

// Quick returns the configurations that every run of the tests explores.
func Quick() []Config {
	return []Config{
		// C2 and C4: two instances that load and fill, and one with two flights.
		{Name: "leases", Instances: 2, Readers: "AB", Flights: 1, MaxStaleness: 1, Writes: oneInvalidate, Starts: 2, Refreshes: 1, Leases: 1},
		{Name: "flights", Instances: 1, Readers: "A", Flights: 2, MaxStaleness: 1, Writes: oneInvalidate, Starts: 2, Refreshes: 1, Evictions: 1, Leases: 1},
		{Name: "strays", Instances: 1, Readers: "A", Flights: 1, MaxStaleness: 1, Writes: oneInvalidate, Starts: 3, Evictions: 1, Leases: 1, Trips: 2},
		{Name: "set", Instances: 2, Readers: "AB", Flights: 1, MaxStaleness: 1, Writes: oneSet, Warm: true, Ticks: 2, Starts: 1, Trips: 1},
		{Name: "two writes", Instances: 2, Readers: "B", Flights: 1, MaxStaleness: 1, Writes: setThenOther, Ticks: 2, Starts: 1, Trips: 1},
		{Name: "own writes", Instances: 2, Readers: "B", Flights: 1, MaxStaleness: 1, Writes: setThenOwn, Ticks: 2, Starts: 1, Trips: 1},
		{Name: "own Sets", Instances: 2, Readers: "B", Flights: 1, MaxStaleness: 1, Writes: setThenSet, Ticks: 2, Starts: 1, Trips: 1},
		{Name: "own writes, all", Instances: 2, Readers: "B", Flights: 1, MaxStaleness: 1, Writes: setThenAll, Ticks: 2, Starts: 1, Trips: 1},
		{Name: "all", Instances: 2, Readers: "AB", Flights: 1, MaxStaleness: 1, Writes: oneAll, Warm: true, Starts: 2, Trips: 1},
		// C3: A writes, B reads.
		{Name: "bound", Instances: 2, Readers: "B", Flights: 1, MaxStaleness: 2, Writes: oneInvalidate, Warm: true, Ticks: 3, Starts: 2, Deaths: 1, SlowBeats: 1},
		{Name: "bound, all", Instances: 2, Readers: "B", Flights: 1, MaxStaleness: 1, Writes: oneAll, Warm: true, Ticks: 3, Starts: 1, Deaths: 1, SlowBeats: 1, SlowLooks: true},
		{Name: "slow hit", Instances: 2, Readers: "B", Flights: 1, MaxStaleness: 2, Writes: oneInvalidate, Warm: true, Ticks: 4, SlowHits: 1, Deaths: 1, SlowBeats: 1},
		// Failover.
		{Name: "failover", Instances: 2, Readers: "B", Flights: 1, MaxStaleness: 1, Writes: oneInvalidate, Warm: true, Ticks: 2, Starts: 1, Failovers: 1},
		{Name: "failover, own", Instances: 1, Readers: "A", Flights: 1, MaxStaleness: 1, Writes: oneInvalidate, Warm: true, Ticks: 2, Starts: 1, Failovers: 1},
		{Name: "restart", Instances: 1, Readers: "A", Flights: 1, MaxStaleness: 1, Writes: oneInvalidate, Warm: true, Ticks: 2, Starts: 1, Failovers: 1, Restarts: true},
		{Name: "newcomer", Instances: 2, Readers: "B", Newcomers: "B", Deaf: true, Flights: 1, MaxStaleness: 1, Writes: oneInvalidate, Warm: true, Ticks: 2, Starts: 1, Failovers: 1},
	}
}

// Full returns larger ones: more of everything, and a third instance.
func Full() []Config {
	return []Config{
		{Name: "leases, 3 instances", Instances: 3, Readers: "ABC", Flights: 1, MaxStaleness: 1, Writes: oneInvalidate, Starts: 3, Leases: 1},
		{Name: "leases, larger", Instances: 2, Readers: "AB", Flights: 1, MaxStaleness: 1, Writes: oneInvalidate, Starts: 3, Refreshes: 1, Leases: 1, Trips: 1},
		{Name: "flights, larger", Instances: 1, Readers: "A", Flights: 2, MaxStaleness: 1, Writes: oneInvalidate, Starts: 3, Refreshes: 1, Evictions: 1, Leases: 1, Trips: 2},
		{Name: "set, larger", Instances: 2, Readers: "AB", Flights: 1, MaxStaleness: 1, Writes: oneSet, Warm: true, Ticks: 2, Starts: 2, Trips: 1},
		{Name: "two invalidations", Instances: 2, Readers: "AB", Flights: 1, MaxStaleness: 1, Writes: []Write{{0, Invalidate}, {1, Invalidate}}, Starts: 3, Leases: 1},
		{Name: "two writes, larger", Instances: 2, Readers: "AB", Flights: 1, MaxStaleness: 1, Writes: setThenOther, Ticks: 2, Starts: 2, Trips: 1},
		{Name: "own writes, larger", Instances: 2, Readers: "AB", Flights: 1, MaxStaleness: 1, Writes: setThenOwn, Ticks: 2, Starts: 1, Trips: 1},
		{Name: "bound, larger", Instances: 2, Readers: "B", Flights: 2, MaxStaleness: 2, Writes: oneInvalidate, Warm: true, Ticks: 5, Starts: 2, Deaths: 1, SlowBeats: 1},
		{Name: "bound, all, larger", Instances: 2, Readers: "B", Flights: 1, MaxStaleness: 2, Writes: oneAll, Warm: true, Ticks: 4, Starts: 2, Deaths: 1, SlowBeats: 1, SlowLooks: true},
		{Name: "bound, epoch evicted", Instances: 2, Readers: "B", Flights: 1, MaxStaleness: 1, Writes: oneAll, Warm: true, Ticks: 3, Starts: 2, Deaths: 1, Evictions: 1, EpochEvictions: true},
		{Name: "failover, larger", Instances: 2, Readers: "B", Flights: 1, MaxStaleness: 1, Writes: oneInvalidate, Warm: true, Ticks: 3, Starts: 1, Failovers: 1},
		{Name: "failover, own, larger", Instances: 1, Readers: "A", Flights: 1, MaxStaleness: 1, Writes: oneInvalidate, Warm: true, Ticks: 2, Starts: 2, Failovers: 1, SlowBeats: 1, Trips: 1},
		{Name: "failover, 3 instances", Instances: 3, Readers: "C", Flights: 1, MaxStaleness: 1, Writes: []Write{{0, Invalidate}, {1, Invalidate}}, Warm: true, Ticks: 2, Starts: 1, Failovers: 1},
		{Name: "failover twice", Instances: 2, Readers: "B", Flights: 1, MaxStaleness: 1, Writes: oneInvalidate, Warm: true, Ticks: 2, Starts: 1, Failovers: 2},
		{Name: "failover, all", Instances: 2, Readers: "B", Flights: 1, MaxStaleness: 1, Writes: oneAll, Warm: true, Ticks: 2, Starts: 1, Failovers: 1},
		{Name: "restart, larger", Instances: 2, Readers: "B", Flights: 1, MaxStaleness: 1, Writes: oneInvalidate, Warm: true, Ticks: 3, Starts: 1, Failovers: 1, Restarts: true},
		{Name: "newcomer by crash", Instances: 2, Readers: "B", Flights: 1, MaxStaleness: 1, Writes: oneInvalidate, Warm: true, Ticks: 2, Starts: 1, Failovers: 1, Crashes: 1, Crashers: "B"},
		{Name: "writer dies", Instances: 2, Readers: "B", Flights: 1, MaxStaleness: 1, Writes: oneInvalidate, Warm: true, Ticks: 2, Starts: 1, Failovers: 1, Crashes: 1, Crashers: "A"},
	}
}
