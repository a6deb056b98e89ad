//go:build linux

package scale

import (
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/redisserver"
	"github.com/tandemcache/tandem/tests/scale/internal/fleet"
	"github.com/tandemcache/tandem/tests/scale/internal/meter"
	"github.com/tandemcache/tandem/tiered"
)

const (
	receivers = 10
	callKeys  = 1000 // of one Invalidate, as many as fit into one message
)

// storms are the ways in which keys are invalidated.
func storms() map[string]fleet.Storm {
	return map[string]fleet.Storm{
		"paced":    {Goroutines: 4, Keys: callKeys, Rate: *stormRate, Distinct: *stormKeys},
		"one each": {Goroutines: 64, Keys: 1, Distinct: *stormKeys},
	}
}

// rig is one process that invalidates and ten instances here that hear it.
type rig struct {
	rdb    *redis.Client
	meter  *meter.Server
	sender processesOf
	bus    *tiered.Bus // of all instances, if they share one
	caches []*tiered.Cache[[]byte]
}

// newRig starts it. The instances load 64 bytes for any key.
func newRig(t *testing.T, shared bool) *rig {
	t.Helper()
	srv := redisserver.Run(t, redisserver.Options{})
	r := &rig{rdb: srv.Client()}
	var err error
	r.meter, err = meter.NewServer(t.Context(), r.rdb)
	require.NoError(t, err)
	if shared {
		r.bus, err = tiered.NewBus(r.rdb, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
	}
	for range receivers {
		c, err := tiered.New(r.rdb, "storm", tiered.Options[[]byte]{
			Load: load64, LocalBytes: 64 << 20, MaxStaleness: *staleness, Bus: r.bus, Logger: slog.New(slog.DiscardHandler),
		})
		require.NoError(t, err)
		r.caches = append(r.caches, c)
	}
	for _, c := range r.caches {
		require.NoError(t, c.Ready(t.Context()))
	}
	r.sender = startFleet(t, fleet.Config{Redis: srv.Addr(), Cache: "storm", LocalBytes: 1 << 20, MaxStaleness: *staleness}, 1, 1)
	return r
}

func (r *rig) close(t *testing.T) {
	t.Helper()
	r.sender.close(t)
	for _, c := range r.caches {
		require.NoError(t, c.Close())
	}
	if r.bus != nil {
		require.NoError(t, r.bus.Close())
	}
	require.NoError(t, r.rdb.Close())
}

// received returns what the instance that is the furthest behind has heard, and the sum of sessions.
func (r *rig) received() (least, sessions uint64) {
	least = ^uint64(0)
	for _, c := range r.caches {
		s := c.Stats()
		least = min(least, s.Received)
		sessions += s.Sessions
	}
	return least, sessions
}

// start has the sender begin, and returns a function that waits for its end.
func (r *rig) start(t *testing.T, s fleet.Storm) (wait func() fleet.Sent) {
	t.Helper()
	type result struct {
		sent fleet.Sent
		err  error
	}
	done := make(chan result, 1)
	before, _ := r.received()
	go func() {
		sent, err := r.sender[0].Storm(s)
		done <- result{sent, err}
	}()
	require.Eventually(t, func() bool {
		now, _ := r.received()
		return now > before
	}, patience, time.Millisecond)
	return func() fleet.Sent {
		d := <-done
		require.NoError(t, d.err)
		require.Zero(t, d.sent.Errors)
		return d.sent
	}
}

// watch samples until stop is called what grows if the instances fall behind.
func (r *rig) watch(t *testing.T) (stop func() (waiting float64, proof time.Duration)) {
	t.Helper()
	over, done := make(chan struct{}), make(chan struct{})
	var waiting float64
	var proof time.Duration
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			if c, err := r.meter.Clients(t.Context()); err == nil {
				waiting = max(waiting, c.Waiting)
			}
			for _, c := range r.caches {
				proof = max(proof, c.Health().ProofAge)
			}
			select {
			case <-tick.C:
			case <-over:
				return
			}
		}
	}()
	return func() (float64, time.Duration) {
		close(over)
		<-done
		return waiting, proof
	}
}

// TestStormIsKeptUpWith sends invalidations into ten instances at a rate, and at the highest that goes.
func TestStormIsKeptUpWith(t *testing.T) {
	redisserver.Need(t)
	out := table{{
		"instances on", "storm", "calls/s", "keys/s", "keys/s into all", "lag of the last, ms", "most waiting in Redis, KiB",
		"oldest proof, ms", "sessions lost", "Redis CPU, %", "this process's CPU, %",
	}}
	eachStorm(t, func(t *testing.T, r *rig, storm fleet.Storm, on, name string) {
		storm.For = *stormFor
		out.add(append([]any{on, name}, r.keepUp(t, storm)...)...)
	})
	out.print(t)
}

// eachStorm runs f for each way to connect the instances and each way to invalidate.
func eachStorm(t *testing.T, f func(t *testing.T, r *rig, storm fleet.Storm, on, name string)) {
	t.Helper()
	for _, on := range []string{"one bus", fmt.Sprintf("%d buses", receivers)} {
		for _, name := range []string{"paced", "one each"} {
			t.Run(on+", "+name, func(t *testing.T) {
				r := newRig(t, on == "one bus")
				f(t, r, storms()[name], on, name)
				r.close(t)
			})
		}
	}
}

func (r *rig) keepUp(t *testing.T, storm fleet.Storm) []any {
	t.Helper()
	before, sessions := r.received()
	stop := r.watch(t)
	var sent fleet.Sent
	own := meter.ProcessCPU()
	used, err := r.meter.Window(t.Context(), func() error {
		sent = r.start(t, storm)()
		return nil
	})
	require.NoError(t, err)
	var least, lost uint64
	require.Eventually(t, func() bool {
		var now uint64
		least, now = r.received()
		lost = now - sessions
		return lost > 0 || least >= before+sent.Keys
	}, patience, time.Millisecond, "every instance hears every invalidation")
	lag := time.Since(sent.Ended)
	own = meter.ProcessCPU() - own
	waiting, proof := stop()
	// Not require: on a machine with too much to do the figures are worth seeing all the same.
	if assert.Zero(t, lost, "sessions were lost") {
		for i, c := range r.caches {
			assert.Equal(t, before+sent.Keys, c.Stats().Received, "instance %d hears each once", i)
			assert.Eventually(t, func() bool { return c.Health().LocalTrusted }, *staleness, time.Millisecond, "instance %d", i)
		}
	}
	calls, keys := float64(sent.Calls)/sent.Took.Seconds(), float64(sent.Keys)/sent.Took.Seconds()
	percent := func(d time.Duration) float64 { return 100 * d.Seconds() / used.Time.Seconds() }
	return []any{
		calls, keys, keys * receivers, float64(lag.Microseconds()) / 1e3, waiting / 1024, float64(proof.Milliseconds()), lost,
		percent(used.CPU), percent(own),
	}
}

// hits are what a round of Gets of keys that nobody invalidates has shown.
type hits struct {
	cpu, wall float64 // ns a hit, the median of batches without a miss
	mean      float64 // ns a Get, misses included
	missed    float64 // of all Gets, in per cent
}

const (
	calmKeys = 1024
	batch    = 16
)

// TestHitsInAStorm compares L1 hits of other keys in a storm with those before it, in rounds in turn.
func TestHitsInAStorm(t *testing.T) {
	redisserver.Need(t)
	out := table{{
		"instances on", "storm", "keys/s", "hit before, ns CPU", "in the storm", "ratio", "hit before, ns", "in the storm", "ratio",
		"Gets missed before, %", "in the storm, %", "all Gets before, mean ns", "in the storm",
	}}
	eachStorm(t, func(t *testing.T, r *rig, storm fleet.Storm, on, name string) {
		row, ratio := r.compareHits(t, storm)
		out.add(append([]any{on, name}, row...)...)
		if *slower > 0 {
			require.LessOrEqual(t, ratio, *slower)
		}
	})
	out.print(t)
}

func (r *rig) compareHits(t *testing.T, storm fleet.Storm) (row []any, ratio float64) {
	t.Helper()
	c := r.caches[0]
	keys := make([]string, calmKeys)
	for i := range keys {
		keys[i] = fmt.Sprintf("calm:%d", i)
	}
	for range 3 {
		for _, key := range keys {
			_, err := c.Get(t.Context(), key)
			require.NoError(t, err)
		}
	}
	var calm, stormy []hits
	var rate []float64
	for range *rounds {
		calm = append(calm, getAll(t, c, keys))
		// Longer than the round, so that the round is within it.
		storm.For = *calmFor + 300*time.Millisecond
		wait := r.start(t, storm)
		stormy = append(stormy, getAll(t, c, keys))
		sent := wait()
		rate = append(rate, float64(sent.Keys)/sent.Took.Seconds())
		heard, _ := r.received()
		require.Eventually(t, func() bool {
			before := heard
			heard, _ = r.received()
			return heard == before
		}, patience, 50*time.Millisecond)
		for _, key := range keys { // what a neighbour's eviction has voided
			_, err := c.Get(t.Context(), key)
			require.NoError(t, err)
		}
	}
	of := func(all []hits, f func(hits) float64) float64 {
		var x []float64
		for _, h := range all {
			x = append(x, f(h))
		}
		return median(x)
	}
	cpu := func(h hits) float64 { return h.cpu }
	wall := func(h hits) float64 { return h.wall }
	missed := func(h hits) float64 { return h.missed }
	mean := func(h hits) float64 { return h.mean }
	ratio = of(stormy, cpu) / of(calm, cpu)
	return []any{
		median(rate), of(calm, cpu), of(stormy, cpu), ratio, of(calm, wall), of(stormy, wall), of(stormy, wall) / of(calm, wall),
		of(calm, missed), of(stormy, missed), of(calm, mean), of(stormy, mean),
	}, ratio
}

// getAll gets keys for a round. A batch in which a Get has missed is not counted: it is a matter of Redis, and shown apart.
func getAll(t *testing.T, c *tiered.Cache[[]byte], keys []string) hits {
	t.Helper()
	runtime.LockOSThread() // for the thread's CPU time to be this goroutine's
	defer runtime.UnlockOSThread()
	var cpu, wall []float64
	var gets, missed uint64
	var all time.Duration
	ctx := t.Context()
	for end := time.Now().Add(*calmFor); time.Now().Before(end); {
		from := rand.IntN(len(keys) - batch)
		misses := c.Stats().LocalMisses
		begin, used := time.Now(), meter.ThreadCPU()
		for _, key := range keys[from : from+batch] {
			if _, err := c.Get(ctx, key); err != nil {
				require.NoError(t, err)
			}
		}
		used, took := meter.ThreadCPU()-used, time.Since(begin)
		misses = c.Stats().LocalMisses - misses
		gets += batch
		missed += misses
		all += took
		if misses == 0 {
			cpu = append(cpu, float64(used.Nanoseconds())/batch)
			wall = append(wall, float64(took.Nanoseconds())/batch)
		}
	}
	return hits{
		cpu: median(cpu), wall: median(wall),
		mean: float64(all.Nanoseconds()) / float64(gets), missed: 100 * float64(missed) / float64(gets),
	}
}

// median returns NaN of none.
func median(x []float64) float64 {
	if len(x) == 0 {
		return math.NaN()
	}
	x = slices.Sorted(slices.Values(x))
	return x[len(x)/2]
}
