//go:build linux

package scale

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/redisserver"
	"github.com/tandemcache/tandem/tests/scale/internal/meter"
	"github.com/tandemcache/tandem/tiered"
)

const (
	soakBytes = 16 << 20 // LocalBytes
	// soakOver is how much of LocalBytes the heap may be, and soakFixed what does not depend on it: the clients' buffers, the
	// values on their way (a goroutine's each, of up to 64 KiB, a few times over), and Ristretto's.
	soakOver  = 1.3
	soakFixed = 8 << 20
	soakTTL   = 3 * time.Second
	soakers   = 8
	// steady is how much more the last third of a soak may take than the second.
	steady = 1.05
	// soakJudged is the shortest soak whose steadiness is judged.
	soakJudged = time.Minute
	soakSample = 250 * time.Millisecond

	hotKeys  = 2000
	hugeKeys = 200_000 // many more than fit
)

var errSource = errors.New("the source fails")

// TestSoak mixes everything that an instance is asked, and watches what it holds on to.
func TestSoak(t *testing.T) {
	redisserver.Need(t)
	srv := redisserver.Run(t, redisserver.Options{})
	rdb := srv.Client()
	m, err := meter.NewServer(t.Context(), rdb)
	require.NoError(t, err)
	empty := meter.LiveHeap()
	var caches []*tiered.Cache[[]byte]
	for range 2 { // two, so that one waits for the other's leases
		c, err := tiered.New(rdb, "soak", tiered.Options[[]byte]{
			Load: loadAny, TTL: max(soakTTL, *staleness), LocalTTL: soakTTL, NotFoundTTL: soakTTL, LocalBytes: soakBytes, MaxStaleness: *staleness,
			LeaseWait: time.Second, Logger: slog.New(slog.DiscardHandler),
		})
		require.NoError(t, err)
		require.NoError(t, c.Ready(t.Context()))
		caches = append(caches, c)
	}

	atRest := runtime.NumGoroutine()
	samples := soak(t, m, caches, empty)
	requireNothingLeft(t, m, caches, atRest, func() []string { return rdb.Keys(t.Context(), "*").Val() })
	for _, c := range caches {
		s := c.Stats()
		t.Logf("%+v", s)
		require.Positive(t, min(s.LocalHits, s.RemoteHits, s.Loads, s.LoadErrors, s.NotFound, s.Sets, s.Invalidated, s.Fills), "the load is mixed")
		require.NoError(t, c.Close())
	}
	samples.report(t)
	samples.requireSteady(t)
}

// sample is what was held at one moment.
type sample struct {
	heap       float64 // live, since before the caches
	local      float64 // by the caches' own count
	goroutines float64
	keys       float64 // in Redis
	redis      float64 // its memory
}

type samples []sample

// soak runs the load for -soak and samples meanwhile.
func soak(t *testing.T, m *meter.Server, caches []*tiered.Cache[[]byte], empty int64) samples {
	t.Helper()
	over := make(chan struct{})
	var load sync.WaitGroup
	for i := range soakers {
		load.Go(func() { ask(t, caches[i%len(caches)], over) })
	}
	var all samples
	tick := time.NewTicker(max(soakSample, *soakFor/2000))
	for end := time.Now().Add(*soakFor); time.Now().Before(end); <-tick.C {
		s := sample{heap: float64(meter.LiveHeap() - empty), goroutines: float64(runtime.NumGoroutine())}
		for _, c := range caches {
			s.local += float64(c.Stats().LocalBytes)
		}
		keys, err := m.Keys(t.Context())
		require.NoError(t, err)
		s.keys = keys
		s.redis, err = m.Memory(t.Context())
		require.NoError(t, err)
		all = append(all, s)
	}
	tick.Stop()
	close(over)
	load.Wait()
	return all
}

// ask is one client's load.
func ask(t *testing.T, c *tiered.Cache[[]byte], over <-chan struct{}) {
	ctx := context.WithoutCancel(t.Context())
	for n := uint64(rand.Uint32()) << 24; ; n++ {
		select {
		case <-over:
			return
		default:
		}
		var err error
		switch p := rand.IntN(100); {
		case p < 55:
			_, err = c.Get(ctx, fmt.Sprintf("hot:%d", rand.IntN(hotKeys)))
		case p < 75:
			_, err = c.Get(ctx, fmt.Sprintf("huge:%d", rand.IntN(hugeKeys)))
		case p < 85:
			_, err = c.Get(ctx, fmt.Sprintf("once:%d", n)) // a key that nobody asks for again
		case p < 92:
			err = c.Set(ctx, fmt.Sprintf("hot:%d", rand.IntN(hotKeys)), value())
		case p < 99:
			err = c.Invalidate(ctx, fmt.Sprintf("hot:%d", rand.IntN(hotKeys)), fmt.Sprintf("huge:%d", rand.IntN(hugeKeys)))
		default:
			short, cancel := context.WithTimeout(ctx, 50*time.Microsecond) // a caller that goes away
			_, _ = c.Get(short, fmt.Sprintf("huge:%d", rand.IntN(hugeKeys)))
			cancel()
		}
		if err != nil && !errors.Is(err, errSource) && !errors.Is(err, tiered.ErrNotFound) && !errors.Is(err, tiered.ErrPending) {
			t.Errorf("%v", err)
			return
		}
	}
}

// loadAny fails now and then, and does not know some keys.
func loadAny(context.Context, string) ([]byte, error) {
	switch rand.IntN(50) {
	case 0:
		return nil, errSource
	case 1:
		return nil, tiered.ErrNotFound
	default:
		return value(), nil
	}
}

// value returns 16 B to 64 KiB, as many of each order of magnitude.
func value() []byte {
	v := make([]byte, int(16*math.Pow(4096, rand.Float64())))
	binary.LittleEndian.PutUint64(v, rand.Uint64())
	return v
}

// requireNothingLeft waits until every TTL is over: then nothing may be left of any key, in Redis or on its way.
func requireNothingLeft(t *testing.T, m *meter.Server, caches []*tiered.Cache[[]byte], atRest int, names func() []string) {
	t.Helper()
	require.Eventually(t, func() bool {
		keys, err := m.Keys(t.Context())
		return err == nil && keys == 1
	}, patience, 100*time.Millisecond, "the epoch's key is the only one without a short TTL")
	require.True(t, strings.HasSuffix(names()[0], ":epoch"), names())
	for _, c := range caches {
		require.Eventually(t, func() bool { return c.Health().PendingKeys == 0 }, patience, 10*time.Millisecond)
	}
	// Not with Eventually, which has goroutines of its own.
	for end := time.Now().Add(patience); runtime.NumGoroutine() > atRest; time.Sleep(10 * time.Millisecond) {
		require.True(t, time.Now().Before(end), "%d goroutines, %d before the load: a flight is left", runtime.NumGoroutine(), atRest)
	}
}

func (s samples) of(f func(sample) float64) []float64 {
	out := make([]float64, len(s))
	for i, one := range s {
		out[i] = f(one)
	}
	return out
}

// figures are what is judged.
var figures = []struct {
	name string
	unit float64
	of   func(sample) float64
}{
	{"heap, MiB", 1 << 20, func(s sample) float64 { return s.heap }},
	{"L1 by its own count, MiB", 1 << 20, func(s sample) float64 { return s.local }},
	{"goroutines", 1, func(s sample) float64 { return s.goroutines }},
	{"keys in Redis", 1, func(s sample) float64 { return s.keys }},
	{"memory of Redis, MiB", 1 << 20, func(s sample) float64 { return s.redis }},
}

func (s samples) report(t *testing.T) {
	t.Helper()
	out := table{{fmt.Sprintf("medians of %v, %d samples", *soakFor, len(s)), "first third", "second", "last", "last to second", "most"}}
	third := len(s) / 3
	for _, f := range figures {
		first, second, last := median(s[:third].of(f.of)), median(s[third:2*third].of(f.of)), median(s[2*third:].of(f.of))
		most := 0.0
		for _, x := range s.of(f.of) {
			most = max(most, x)
		}
		out.add(f.name, first/f.unit, second/f.unit, last/f.unit, last/second, most/f.unit)
	}
	out.print(t)
}

func (s samples) requireSteady(t *testing.T) {
	t.Helper()
	bound := 2*soakOver*soakBytes + soakFixed // of two caches
	third := len(s) / 3
	require.Positive(t, third)
	require.LessOrEqual(t, median(s[third:].of(func(s sample) float64 { return s.heap })), bound, "heap against 1.3 times LocalBytes")
	if *soakFor < soakJudged {
		return
	}
	for _, f := range figures {
		second, last := median(s[third:2*third].of(f.of)), median(s[2*third:].of(f.of))
		require.LessOrEqual(t, last, steady*second, f.name)
	}
}
