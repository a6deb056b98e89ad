package model

import (
	"fmt"
	"os"
	"testing"
)

func TestScratch(t *testing.T) {
	inv := []Write{{0, Invalidate}}
	cfgs := []Config{
		{Name: "own", Instances: 2, Readers: "AB", MaxStaleness: 2, Flights: 1, Writes: inv, Starts: 3, Leases: 1, Evictions: 1, Trips: 1},
		{Name: "own2", Instances: 1, Readers: "A", MaxStaleness: 2, Flights: 2, Writes: inv, Starts: 4, Leases: 1, Evictions: 1, Trips: 2},
		{Name: "bound", Instances: 2, Readers: "B", MaxStaleness: 2, Flights: 1, Writes: inv, Warm: true, Ticks: 5, Starts: 2, Deaths: 1, SlowBeats: 1},
		{Name: "failover", Instances: 2, Readers: "B", MaxStaleness: 2, Flights: 1, Writes: inv, Warm: true, Ticks: 5, Starts: 2, Failovers: 1},
	}
	for _, c := range cfgs {
		if n := os.Getenv("CFG"); n != "" && n != c.Name {
			continue
		}
		var reached [situations]uint64
		m := New(c, &reached)
		r := m.Explore(4_000_000)
		fmt.Println(c.Name, r)
		if r.Violation != "" {
			fmt.Println(m.Line(r))
		}
		fmt.Println(reached)
	}
}
