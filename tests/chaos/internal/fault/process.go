//go:build linux

package fault

import (
	"context"
	"math/rand/v2"

	"github.com/tandemcache/tandem/tests/chaos/internal/arena"
)

// process are the faults of an instance's process.
func process() []Fault {
	return []Fault{
		{Name: "instance-paused", Class: Process, Start: func(_ context.Context, a *arena.Arena, rng *rand.Rand) (func() error, error) {
			s := ownProcess(a, rng)
			a.Notef("instance-paused: slot %d", s.Index)
			return s.Worker().Continue, s.Worker().Stop()
		}},
		{Name: "instance-killed", Class: Process, Start: func(_ context.Context, a *arena.Arena, rng *rand.Rand) (func() error, error) {
			s := ownProcess(a, rng)
			a.Notef("instance-killed: slot %d", s.Index)
			return s.Succeed, s.Kill()
		}},
	}
}

func ownProcess(a *arena.Arena, rng *rand.Rand) *arena.Slot {
	var own []*arena.Slot
	for _, s := range a.Slots {
		if s.Own {
			own = append(own, s)
		}
	}
	return own[rng.IntN(len(own))]
}
