package sizing

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFit(t *testing.T) {
	t.Parallel()
	l := Fit([]Point{{1, 5}, {2, 7}, {4, 11}, {8, math.NaN()}})
	require.InDeltaSlice(t, []float64{3, 2, 0, 23}, []float64{l.Fixed, l.Each, l.Off, l.At(10)}, 1e-9)
	level := Fit([]Point{{3, 9}, {3, 11}})
	require.InDeltaSlice(t, []float64{10, 0, 0.1}, []float64{level.Fixed, level.Each, level.Off}, 1e-9)
	require.Equal(t, Line{}, Fit(nil))
}

func TestFitPlane(t *testing.T) {
	t.Parallel()
	p := FitPlane([]Sample{{3, 16, 3 + 2*3 + 16}, {3, 64, 3 + 2*3 + 64}, {6, 64, 3 + 2*6 + 64}, {6, 128, 3 + 2*6 + 128}})
	require.InDeltaSlice(t, []float64{3, 2, 1, 0, 299}, []float64{p.Fixed, p.Node, p.Partition, p.Off, p.At(20, 256)}, 1e-6)
	level := FitPlane([]Sample{{3, 16, 20}, {3, 64, 68}})
	require.InDeltaSlice(t, []float64{0, 1, 4}, []float64{level.Node, level.Partition, level.Fixed}, 1e-6)
}

func TestSpreadHasEveryPartitionOnce(t *testing.T) {
	t.Parallel()
	for _, masters := range []int{1, 3, 6, 20, 40} {
		of, err := Spread(256, masters)
		require.NoError(t, err)
		total, most := 0, 0
		for _, n := range of {
			total += n
			most = max(most, n)
		}
		require.Equal(t, 256, total)
		require.LessOrEqual(t, most, 256/masters+2)
		got, err := Most(256, masters)
		require.NoError(t, err)
		require.Equal(t, most, got)
	}
	_, err := Spread(3, 1)
	require.Error(t, err)
}

// units are round numbers.
func units() Units {
	return Units{
		BeatsPerBound: 3, Beat: Line{Fixed: 100, Each: 10}, In: Line{Fixed: 50, Each: 10}, Out: Line{Fixed: 20},
		Invalidate: Line{Fixed: 80, Each: 10}, Memory: Line{Fixed: 1000, Each: 100}, Connections: 2,
		Look: 40, Entry: 100, Store: 20, Read: 10,
	}
}

// plan has 16 partitions on each master.
func plan() Plan {
	return Plan{
		Instances: 100, Masters: 4, Partitions: 64, Staleness: 3 * time.Second,
		Invalidates: 40, Reads: 4000, Stores: 400, Entries: 1e6, Bytes: 300,
	}
}

func TestBusiest(t *testing.T) {
	t.Parallel()
	n, err := units().Busiest(plan())
	require.NoError(t, err)
	require.Equal(t, Node{
		Partitions: 16, Share: 0.25, Beats: 100, Scripts: 1600, Messages: 1000, In: 100 * 210, Out: 100 * 20,
		Rest: 100 * 300 / 1e6, Told: 10 * 1080 / 1e6, Data: 0.25 * (4000*10 + 400*20) / 1e6,
		Tell: 1080 * time.Microsecond, Connections: 200, Overhead: 100 * 2600, Entries: 250_000 * 400,
	}, n)

	p := plan()
	p.Staleness = time.Minute
	rare, err := units().Busiest(p)
	require.NoError(t, err)
	require.InDelta(t, 50, rare.Beats, 1e-9, "one every two seconds at least")

	p = plan()
	p.Invalidates, err = units().Room(p, 0.5)
	require.NoError(t, err)
	full, err := units().Busiest(p)
	require.NoError(t, err)
	require.InDelta(t, 0.5, full.Busy(), 1e-9)
	room, err := units().Room(p, 0.01)
	require.NoError(t, err)
	require.Zero(t, room)
}

// With one kind of request that comes at random and takes as long each time, the mean wait is known: Pollaczek and Khinchine.
func TestQueueIsThatOfTheTextbook(t *testing.T) {
	t.Parallel()
	for _, busy := range []float64{0.2, 0.5, 0.8} {
		const cost = 1e-3
		q := queue{random: rand.New(rand.NewPCG(1, 2)), next: arrivals{{at: 0, of: read}}}
		q.cost[read], q.rate[read] = cost, busy/cost
		q.run(2000)
		total := 0.0
		for _, took := range q.took[read] {
			total += took
		}
		want := cost * (1 + busy/(2*(1-busy)))
		require.InEpsilon(t, want, total/float64(len(q.took[read])), 0.03, "busy for %v", busy)
	}
}

func TestSimulate(t *testing.T) {
	t.Parallel()
	u, p := units(), plan()
	n, err := u.Busiest(p)
	require.NoError(t, err)
	w, err := u.Simulate(p, 200*time.Second, 1)
	require.NoError(t, err)
	require.InEpsilon(t, n.Busy(), w.Busy, 0.05, "what arrives is what was reckoned")
	require.GreaterOrEqual(t, w.Told50, n.Tell)
	require.GreaterOrEqual(t, w.Read99, w.Read50)
	require.Zero(t, w.Late)

	p.Invalidates = 1.2e6 / float64(n.Tell.Microseconds()) * 4 // more than there is time for
	w, err = u.Simulate(p, 60*time.Second, 1)
	require.NoError(t, err)
	require.Greater(t, w.Late, 0.5, "then heartbeats are given up")
}

func TestUnitsAreKept(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "units.json")
	_, err := Load(file)
	require.Error(t, err)
	want := units()
	want.From = []string{"somewhere"}
	require.NoError(t, want.Save(file))
	got, err := Load(file)
	require.NoError(t, err)
	require.Equal(t, want, got)
}
