// Package confirm is for tests that need an invalidation to be confirmed, on a machine that may be too busy for Redis to do so in
// time.
package confirm

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered"
)

// Within repeats invalidate while it returns tiered.ErrPending, for patience at most, and returns how long the last one took. Any
// other error fails the test.
func Within(t testing.TB, patience time.Duration, invalidate func() error) time.Duration {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		began := time.Now()
		err := invalidate()
		took := time.Since(began)
		if errors.Is(err, tiered.ErrPending) && time.Now().Before(end) {
			continue
		}
		require.NoError(t, err)
		return took
	}
}
