package integration

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// C1: four instances, a thousand readers, one cold key: one load, in every one of 50 rounds.
func TestOneLoadForAThousandReaders(t *testing.T) {
	onBoth(t, func(t *testing.T, r *rig) {
		s := newSource(20 * time.Millisecond)
		f := fleet(t, 4, r, s, calm)
		const rounds, readers = 50, 1000
		walls := make([]time.Duration, 0, rounds)
		most := int64(0)
		for round := range rounds {
			key := fmt.Sprintf("cold:%d", round)
			before := s.loads.Load()
			var failed atomic.Int64
			var wg sync.WaitGroup
			start := make(chan struct{})
			for i := range readers {
				wg.Go(func() {
					<-start
					if v, err := f[i%len(f)].Get(t.Context(), key); err != nil || v.Key != key {
						failed.Add(1)
					}
				})
			}
			began := time.Now()
			close(start)
			wg.Wait()
			walls = append(walls, time.Since(began))
			require.Zero(t, failed.Load())
			most = max(most, s.loads.Load()-before)
		}
		t.Logf("%d rounds of %d readers on %d instances: at most %d load a round, wall p50 %v p99 %v for a source of %v",
			rounds, readers, len(f), most, quantile(walls, 0.5), quantile(walls, 0.99), s.delay)
		require.EqualValues(t, 1, most)
	})
}
