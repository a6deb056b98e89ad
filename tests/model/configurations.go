package model

// The configurations. Each is about one part of the protocol and leaves out what has no bearing on it, so that all of its
// states can be visited. Faults are budgets: so many in one run, at any time.

func configurations() []Config {
	invalidate := []Write{{0, Invalidate}}
	set := []Write{{0, Set}}
	all := []Write{{0, InvalidateAll}}
	return []Config{
		// C2 and C4, without time: two instances load and fill.
		{Name: "leases", Instances: 2, Readers: "AB", Flights: 1, Writes: invalidate, Starts: 3, Refreshes: 1, Leases: 1, Trips: 1},
		{Name: "flights", Instances: 1, Readers: "A", Flights: 2, Writes: invalidate, Starts: 3, Refreshes: 1, Evictions: 1, Leases: 1, Trips: 2},
		{Name: "set", Instances: 2, Readers: "AB", Flights: 1, Writes: set, Warm: true, Ticks: 1, Starts: 2, Trips: 2, Evictions: 1},
		{Name: "two writes", Instances: 2, Readers: "B", Flights: 1, Writes: []Write{{0, Set}, {1, Invalidate}}, Ticks: 2, Starts: 2, Trips: 1},
		{Name: "all", Instances: 2, Readers: "AB", Flights: 1, Writes: all, Warm: true, SlowBeats: 1, SlowLooks: true, Starts: 2, Trips: 1},
		// C3: A writes, B reads.
		{Name: "bound", Instances: 2, Readers: "B", Flights: 1, MaxStaleness: 2, Writes: invalidate, Warm: true, Ticks: 5, Starts: 2, Deaths: 1, SlowBeats: 1},
		{Name: "bound, all", Instances: 2, Readers: "B", Flights: 1, MaxStaleness: 2, Writes: all, Warm: true, Ticks: 4, Starts: 2, Deaths: 1, SlowBeats: 1, SlowLooks: true},
		{Name: "slow hit", Instances: 2, Readers: "B", Flights: 1, MaxStaleness: 2, Writes: invalidate, Warm: true, Ticks: 5, SlowHits: 1, Deaths: 1, SlowBeats: 1},
		// Failover.
		{Name: "failover", Instances: 2, Readers: "B", Flights: 1, MaxStaleness: 1, Writes: invalidate, Warm: true, Ticks: 3, Starts: 1, Failovers: 1},
		{Name: "failover, own", Instances: 1, Readers: "A", Flights: 1, MaxStaleness: 1, Writes: invalidate, Warm: true, Ticks: 2, Starts: 1, Failovers: 1, SlowBeats: 1, Restarts: true, Trips: 1},
		{Name: "failover, newcomer", Instances: 2, Readers: "B", Flights: 1, MaxStaleness: 1, Writes: invalidate, Warm: true, Ticks: 3, Starts: 1, Failovers: 1, Crashes: 1},
	}
}
