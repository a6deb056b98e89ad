package measure_test

import (
	"errors"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/bench/internal/measure"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	require.True(t, math.IsNaN(measure.Median(nil)))
	values := []float64{9, 1, 5}
	require.InDelta(t, 5, measure.Median(values), 0)
	require.Equal(t, []float64{9, 1, 5}, values, "the input stays in its order")
	require.InDelta(t, 3, measure.Median([]float64{5, 1, 9, 1}), 0)
}

func TestPercentileIsTheNearestRank(t *testing.T) {
	t.Parallel()
	require.Zero(t, measure.Percentile(nil, 50))
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for p, want := range map[float64]time.Duration{0: 1, 1: 1, 50: 50, 50.5: 51, 99: 99, 99.5: 100, 100: 100} {
		require.Equal(t, want, measure.Percentile(hundred, p), "%v", p)
	}
	require.Equal(t, time.Duration(7), measure.Percentile([]time.Duration{7}, 99))
}

func TestRoundsInterleaveAndRotate(t *testing.T) {
	t.Parallel()
	var got [][2]int
	require.NoError(t, measure.Rounds(2, 3, func(round, competitor int) error {
		got = append(got, [2]int{round, competitor})
		return nil
	}))
	require.Equal(t, [][2]int{{0, 0}, {0, 1}, {0, 2}, {1, 1}, {1, 2}, {1, 0}}, got)

	broken := errors.New("broken")
	require.ErrorIs(t, measure.Rounds(2, 3, func(int, int) error { return broken }), broken)
}

func TestRatioComparesWithinARound(t *testing.T) {
	t.Parallel()
	m := measure.NewMatrix([]string{"a", "base"})
	require.Equal(t, []string{"a", "base"}, m.Names())
	// The machine is ten times slower in the second round, and a is twice as slow as the baseline in two of three.
	for _, c := range []struct{ a, base int }{{200, 100}, {2000, 1000}, {100, 100}} {
		m.Add("a", measure.Cell{Ops: 1, Wall: time.Duration(c.a)})
		m.Add("base", measure.Cell{Ops: 1, Wall: time.Duration(c.base)})
	}
	require.InDelta(t, 2, m.Ratio("a", "base", measure.Cell.Nanos), 1e-9)
	require.InDelta(t, 200, m.Median("a", measure.Cell.Nanos), 1e-9)
}

func TestCellFigures(t *testing.T) {
	t.Parallel()
	c := measure.Cell{Ops: 4, Wall: 2 * time.Second, Allocs: 6, Commands: 8, Piece: 1, Latencies: []time.Duration{
		time.Microsecond, 2 * time.Microsecond, 3 * time.Microsecond, 4 * time.Microsecond,
	}}
	require.InDelta(t, 5e8, c.Nanos(), 0)
	require.InDelta(t, 2, c.PerSecond(), 0)
	require.InDelta(t, 1.5, c.AllocsPerOp(), 0)
	require.InDelta(t, 2, c.CommandsPerOp(), 0)
	require.InDelta(t, 2, c.Micros(50), 0)
	require.InDelta(t, 4, c.Micros(99), 0)
	require.True(t, math.IsNaN(measure.Cell{}.Micros(50)))
	c.Piece = 4
	require.InDelta(t, 0.5, c.Micros(50), 0, "of one operation in four")
}

type countingReader struct {
	reads atomic.Int64
	fail  error
}

func (r *countingReader) Read(string) (int64, error) {
	r.reads.Add(1)
	return 0, r.fail
}

func TestReadsCountsWhatItDoes(t *testing.T) {
	t.Parallel()
	r := &countingReader{}
	cell, err := measure.Reads(r, []string{"a", "b"}, 3, 5*time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, r.reads.Load(), int64(cell.Ops))
	require.GreaterOrEqual(t, cell.Wall, 5*time.Millisecond)

	r.fail = errors.New("gone")
	_, err = measure.Reads(r, []string{"a"}, 2, time.Hour)
	require.ErrorIs(t, err, r.fail)
}

func TestTimedTimesEachCall(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	cell, err := measure.Timed(2, 20*time.Millisecond, func(worker, i int) error {
		calls.Add(1)
		time.Sleep(time.Millisecond)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, calls.Load(), int64(cell.Ops))
	require.Len(t, cell.Latencies, cell.Ops)
	require.IsNonDecreasing(t, cell.Latencies)
	require.GreaterOrEqual(t, cell.Latencies[0], time.Millisecond)

	broken := errors.New("broken")
	_, err = measure.Timed(2, time.Hour, func(int, int) error { return broken })
	require.ErrorIs(t, err, broken)
}

func TestPreparedTimesOnlyWhatIsPrepared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		prepared := 0
		prepare := func(d time.Duration) func() error {
			return func() error {
				prepared++
				time.Sleep(d)
				return nil
			}
		}
		each := func(i int) error {
			time.Sleep(time.Duration(i+1) * time.Millisecond)
			return nil
		}
		cell, err := measure.Prepared(15*time.Millisecond, 3, prepare(time.Millisecond), each)
		require.NoError(t, err)
		require.Equal(t, []any{3, 9, 18 * time.Millisecond}, []any{prepared, cell.Ops, cell.Wall})
		require.Equal(t, time.Millisecond, cell.Latencies[0])
		require.Equal(t, 3*time.Millisecond, cell.Latencies[8])

		prepared = 0
		_, err = measure.Prepared(15*time.Millisecond, 1, prepare(10*time.Millisecond), each)
		require.NoError(t, err)
		require.Equal(t, 3, prepared, "it does not go on for ever")
		broken := errors.New("broken")
		_, err = measure.Prepared(time.Hour, 1, func() error { return broken }, each)
		require.ErrorIs(t, err, broken)
	})
}
