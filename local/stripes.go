package local

import (
	"math/bits"
	"sync/atomic"
)

const (
	minStripes = 1 << 10
	maxStripes = 1 << 24
)

// stripes are version counters, each shared by the keys that hash to it. A counter is never reset: with 64 bits it does
// not come round.
type stripes struct {
	versions []atomic.Uint64
	shift    uint
}

// newStripes returns about one stripe an entry, so that an eviction voids about one other key's entry on average.
func newStripes(entries int64) stripes {
	n := min(max(entries, minStripes), maxStripes)
	logN := bits.Len64(uint64(n - 1))
	return stripes{versions: make([]atomic.Uint64, 1<<logN), shift: uint(64 - logN)}
}

// stripe takes the hash's high bits: Ristretto picks its shard by the low ones.
func (s *stripes) stripe(hash uint64) *atomic.Uint64 { return &s.versions[hash>>s.shift] }

func (s *stripes) bytes() int64 { return int64(len(s.versions)) * 8 }
