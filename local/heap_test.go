package local

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// The budget is in bytes of heap: filled with many more entries than fit, the process must have grown by about Bytes and
// not by a multiple of it. Ristretto with the values' sizes as costs takes 5.9 times its MaxCost for values of 16 bytes.
func TestHeapAgainstBudget(t *testing.T) {
	if testing.Short() {
		t.Skip("fills 32 MiB several times")
	}
	const budget = 32 << 20
	for _, size := range []int{16, 128, 1 << 10, 16 << 10, 64 << 10} {
		t.Run(fmt.Sprintf("%d bytes", size), func(t *testing.T) {
			before := heap()
			s, err := New(Options[[]byte]{Bytes: budget, MaxStaleness: time.Hour})
			require.NoError(t, err)
			defer s.Close()
			s.Begin(0)
			for i := range 3 * budget / (size + 200) {
				key := fmt.Sprintf("user:%d", i)
				s.Put(key, make([]byte, size), s.Ticket(0, key), time.Hour)
			}
			used := heap() - before
			ratio := float64(used) / budget
			t.Logf("values of %6d bytes: heap %.2f of the budget, %.2f by our own count", size, ratio, float64(s.Usage().Bytes)/budget)
			require.Less(t, ratio, 1.15)
			require.Greater(t, ratio, 0.75)
			runtime.KeepAlive(s)
		})
	}
}
