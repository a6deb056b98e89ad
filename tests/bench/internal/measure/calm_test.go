package measure

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCalmMeansThatEqualWorkTakesEqualTime(t *testing.T) {
	t.Parallel()
	even := make([]time.Duration, 20)
	for i := range even {
		even[i] = time.Millisecond
	}
	require.True(t, calm(even))
	even[3], even[11] = time.Second, time.Second // a tenth
	require.True(t, calm(even))
	even[0], even[1], even[2] = time.Second, time.Second, time.Second
	require.False(t, calm(even))
}

func TestWaitForCalmLooksAgainUntilItsLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		busy := func() []time.Duration { looks++; return []time.Duration{1, 2} }
		start := time.Now()
		require.False(t, waitForCalm(time.Second, busy))
		require.GreaterOrEqual(t, time.Since(start), time.Second)
		require.Greater(t, looks, 3)

		looks = 0
		require.True(t, waitForCalm(time.Second, func() []time.Duration {
			if looks++; looks < 3 {
				return []time.Duration{1, 2}
			}
			return []time.Duration{1, 1}
		}))
		require.Equal(t, 3, looks)
	})
}

func TestSpinsUseAllProcessors(t *testing.T) {
	t.Parallel()
	took := spins()
	require.Zero(t, len(took)%spinRounds)
	for _, one := range took {
		require.Positive(t, one)
	}
}
