package measure_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/measure"
)

func TestOf(t *testing.T) {
	t.Parallel()
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[99-i] = time.Duration(i + 1)
	}
	require.Equal(t, measure.Spread{Samples: 100, P50: 50, P99: 99, Max: 100}, measure.Of(hundred))
	require.Equal(t, measure.Spread{Samples: 3, P50: 2, P99: 3, Max: 3}, measure.Of([]time.Duration{3, 1, 2}))
	require.Equal(t, measure.Spread{Samples: 1, P50: 7, P99: 7, Max: 7}, measure.Of([]time.Duration{7}))
	require.Zero(t, measure.Of(nil))
}
