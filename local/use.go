package local

import "sync/atomic"

// uses decides which hits Ristretto's policy hears of.
//
// The policy (TinyLFU) counts uses of a key in four bits and one of a bloom filter, and halves all counts each time it has
// heard of as many uses as it has counters. So within one such period no more than the first sixteen uses of an entry change
// anything, and telling the policy costs more than the rest of a hit. What is left out lengthens the period, in uses of what
// is popular anyway.
type uses struct {
	period atomic.Uint32 // in steps of periodStep
	heard  atomic.Uint64 // in batches of heardBatch
	length uint64        // how many are heard in a period
}

const (
	saturated  = 16 // uses in one period
	periodStep = 2 * saturated
	heardBatch = 256
)

// counts reports whether to tell the policy of a use of the entry that told belongs to. Two readers who ask at once may be
// counted as one: told is a hint, and no reason to have them wait for each other's cache line.
func (u *uses) counts(told *atomic.Uint32) bool {
	period, n := u.period.Load(), told.Load()
	if n-period > saturated { // of an earlier period
		n = period
	}
	if n-period == saturated {
		return false
	}
	told.Store(n + 1)
	return true
}

// hear takes note that the policy was told of the n-th use of one of the door's slots.
func (u *uses) hear(n uint64) {
	if n%heardBatch == 0 && u.heard.Add(heardBatch)%u.length < heardBatch {
		u.period.Add(periodStep)
	}
}
