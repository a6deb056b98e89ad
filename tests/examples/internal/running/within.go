package running

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Within asks until the answer is right. A wrong one is an error if it was asked for more than bound after the call of Within.
func Within(t *testing.T, bound time.Duration, right func() bool) {
	t.Helper()
	for changed := time.Now(); ; time.Sleep(time.Millisecond) {
		asked := time.Now()
		if right() {
			return
		}
		require.LessOrEqual(t, asked.Sub(changed), bound, "still wrong when asked then")
	}
}

// Never asks for a while longer than bound, and returns when the answer was wrong for the last time, counted from the call. A
// wrong one is an error if it was asked for later than bound.
func Never(t *testing.T, bound time.Duration, wrong func() bool) (last time.Duration) {
	t.Helper()
	after := 0
	for changed := time.Now(); after < 50; time.Sleep(time.Millisecond) {
		asked := time.Since(changed)
		if asked > bound {
			after++
		}
		if wrong() {
			require.LessOrEqual(t, asked, bound, "still wrong when asked then")
			last = asked
		}
	}
	return last
}
