package fleet

import "github.com/tandemcache/tandem/tiered"

// Totals are what an instance has done since it was started.
type Totals struct {
	Instance    int    `json:"instance"` // from 1
	Reads       uint64 `json:"reads"`    // lookups of L1
	LocalHits   uint64 `json:"l1_hits"`
	RemoteHits  uint64 `json:"l2_hits"`
	Joined      uint64 `json:"joined"`
	Loads       uint64 `json:"loads"`
	Fills       uint64 `json:"fills"`
	Refused     uint64 `json:"refused"`
	Received    uint64 `json:"invalidations_heard"`
	Sessions    uint64 `json:"sessions"`
	Commands    uint64 `json:"redis_commands"`
	RedisErrors uint64 `json:"redis_errors"`
}

func totals(instance int, s tiered.Stats) Totals {
	return Totals{
		Instance: instance, Reads: s.LocalHits + s.LocalMisses,
		LocalHits: s.LocalHits, RemoteHits: s.RemoteHits, Joined: s.Joined,
		Loads: s.Loads, Fills: s.Fills, Refused: s.Refused,
		Received: s.Received, Sessions: s.Sessions,
		Commands: s.Commands, RedisErrors: s.RedisErrors,
	}
}

// Totals returns what each instance has done.
func (f *Fleet) Totals() []Totals {
	all := make([]Totals, 0, len(f.Instances))
	for _, i := range f.Instances {
		all = append(all, totals(i.Index+1, i.Cache.Stats()))
	}
	return all
}

// Sum adds up totals; its Instance is 0.
func Sum(all []Totals) Totals {
	var sum Totals
	for _, t := range all {
		sum.Reads += t.Reads
		sum.LocalHits += t.LocalHits
		sum.RemoteHits += t.RemoteHits
		sum.Joined += t.Joined
		sum.Loads += t.Loads
		sum.Fills += t.Fills
		sum.Refused += t.Refused
		sum.Received += t.Received
		sum.Sessions += t.Sessions
		sum.Commands += t.Commands
		sum.RedisErrors += t.RedisErrors
	}
	return sum
}
