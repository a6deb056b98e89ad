package heapsize

import (
	"math"
	"runtime/metrics"
	"slices"
	"sync"
)

// pageBytes is what the runtime rounds an allocation above its largest size class up to.
const pageBytes = 8 << 10

// classes returns the runtime's allocation size classes in ascending order. They are read from the bounds of a runtime
// histogram, so that they are those of the Go release this program was built with and not a copied table.
var classes = sync.OnceValue(func() []int64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs-by-size:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindFloat64Histogram {
		return nil
	}
	var out []int64
	for _, bound := range sample[0].Value.Float64Histogram().Buckets {
		// A bucket's upper bound is exclusive: one more than the largest size that is in it.
		if bound > 1 && !math.IsInf(bound, 0) {
			out = append(out, int64(bound)-1)
		}
	}
	return out
})

// Class returns the bytes that the runtime sets aside for an allocation of n bytes: n rounded up to its size class.
func Class(n int64) int64 {
	if n <= 0 {
		return 0
	}
	sizes := classes()
	if i, _ := slices.BinarySearch(sizes, n); i < len(sizes) {
		return sizes[i]
	}
	return (n + pageBytes - 1) / pageBytes * pageBytes
}
