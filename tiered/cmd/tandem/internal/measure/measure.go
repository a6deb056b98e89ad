// Package measure sums up samples.
package measure

import (
	"slices"
	"time"
)

// Spread is how samples spread.
type Spread struct {
	Samples int           `json:"samples"`
	P50     time.Duration `json:"p50_ns"`
	P99     time.Duration `json:"p99_ns"`
	Max     time.Duration `json:"max_ns"`
}

// Of returns the spread of samples, which it sorts. A quantile is the smallest sample that is not below that part of all.
func Of(samples []time.Duration) Spread {
	n := len(samples)
	if n == 0 {
		return Spread{}
	}
	slices.Sort(samples)
	at := func(percent int) time.Duration { return samples[(n*percent+99)/100-1] }
	return Spread{Samples: n, P50: at(50), P99: at(99), Max: samples[n-1]}
}
