package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/bench/internal/measure"
	"github.com/tandemcache/tandem/tests/bench/internal/peers"
	"github.com/tandemcache/tandem/tests/bench/internal/section"
	"github.com/tandemcache/tandem/tests/redisserver"
)

var update = flag.Bool("update", false, "write the ratios that TestHitsHaveNotBecomeSlower finds to "+recordFile)

// recordFile holds, for each comparison of the guard, tandem's time for a read as a ratio to the baseline's in the same run.
// Absolute times differ from machine to machine; these ratios do far less.
const recordFile = "baseline.json"

const (
	guardRounds   = 21
	updateRounds  = 41
	guardTime     = 50 * time.Millisecond
	guardAttempts = 3 // a machine that is busy with other things is given two more chances

	// calmWithin is how long an attempt waits for a calm machine, such as for the tests of other packages to end.
	calmWithin = 30 * time.Second

	// kept is the share of its recorded speed that tandem must keep.
	kept = 0.75
)

// lost reports whether speed went below what is kept. Both are times, as ratios to the same baseline.
func lost(recorded, measured float64) bool { return recorded/measured < kept }

func TestLostMeansMoreThanAQuarterOfTheSpeed(t *testing.T) {
	t.Parallel()
	require.False(t, lost(1, 1))
	require.False(t, lost(1, 1.33))
	require.True(t, lost(1, 1.34))
	require.False(t, lost(2, 2.6))
	require.True(t, lost(2, 2.7))
	require.False(t, lost(2, 0.5), "faster is never a loss")
}

// comparison is a kind of reads, with the baseline that tandem is held against.
type comparison struct {
	name     string
	list     []peers.Peer
	baseline string
	run      func(context.Context, section.Config, []peers.Peer, []int) (section.Hits, error)
	// figures are what is compared, by the number of goroutines.
	figures map[int]func(measure.Cell) float64
}

var guarded = []comparison{
	{
		"L1 hit", []peers.Peer{peers.RistrettoTTL(), peers.Tandem()}, peers.LocalBaseline, section.LocalHits,
		map[int]func(measure.Cell) float64{1: undisturbed, 16: undisturbed},
	},
	{
		"L2 hit", []peers.Peer{peers.Plain(), peers.TandemRemote()}, peers.RemoteBaseline, section.RemoteHits,
		map[int]func(measure.Cell) float64{1: undisturbed, 64: measure.Cell.Nanos},
	},
}

// undisturbed is what a read takes while nothing else wants the processor: the mean tells more of what else the machine does.
// Where more reads wait than there are processors, each waits for the others, and only the throughput is a measure.
func undisturbed(c measure.Cell) float64 { return c.Micros(10) }

// ratios returns tandem's ratio for each number of goroutines, by the names in the record.
func (c comparison) ratios(t *testing.T, addr string, rounds int) map[string]float64 {
	t.Helper()
	if !measure.WaitForCalm(calmWithin) {
		t.Log("the machine has other things to do: these figures may be wrong")
	}
	cfg := section.Config{Addr: addr, Rounds: rounds, Time: guardTime, Log: func(format string, args ...any) {
		if strings.Contains(format, "again") {
			t.Logf(format, args...)
		}
	}}
	found, err := c.run(t.Context(), cfg, c.list, slices.Sorted(maps.Keys(c.figures)))
	require.NoError(t, err)
	ratios := map[string]float64{}
	for n, figure := range c.figures {
		name := fmt.Sprintf("%s, %s / %s", c.name, section.Goroutines(n), c.baseline)
		ratios[name] = found[n].Ratio(peers.TandemName, c.baseline, figure)
	}
	return ratios
}

// To accept other ratios, on a machine that does nothing else: go test -run TestHitsHaveNotBecomeSlower -update.
func TestHitsHaveNotBecomeSlower(t *testing.T) {
	if testing.Short() || raceDetector {
		t.Skip("figures of a short run or under the race detector say nothing")
	}
	server := redisserver.Run(t, redisserver.Options{})
	if *update {
		writeRecord(t, server.Addr())
		return
	}
	recorded := readRecord(t)
	for _, c := range guarded {
		t.Run(c.name, func(t *testing.T) { c.guard(t, server.Addr(), recorded) })
	}
}

// guard fails if something has lost too much of its speed in every attempt.
func (c comparison) guard(t *testing.T, addr string, recorded map[string]float64) {
	always := map[string]bool{} // whether it was too slow in all attempts so far
	for attempt := range guardAttempts {
		for name, measured := range c.ratios(t, addr, guardRounds) {
			require.Contains(t, recorded, name, "%s lacks it: run with -update", recordFile)
			t.Logf("%s: %.2f, recorded %.2f", name, measured, recorded[name])
			always[name] = lost(recorded[name], measured) && (attempt == 0 || always[name])
		}
		maps.DeleteFunc(always, func(_ string, still bool) bool { return !still })
		if len(always) == 0 {
			return
		}
	}
	require.Empty(t, slices.Sorted(maps.Keys(always)), "more than a quarter of the recorded speed is lost, %d times in a row", guardAttempts)
}

func readRecord(t *testing.T) map[string]float64 {
	t.Helper()
	data, err := os.ReadFile(recordFile)
	require.NoError(t, err)
	var recorded map[string]float64
	require.NoError(t, json.Unmarshal(data, &recorded))
	return recorded
}

func writeRecord(t *testing.T, addr string) {
	t.Helper()
	all := map[string]float64{}
	for _, c := range guarded {
		for name, ratio := range c.ratios(t, addr, updateRounds) {
			all[name] = float64(int(ratio*100+0.5)) / 100
		}
	}
	t.Logf("recorded: %v", slices.Sorted(maps.Keys(all)))
	data, err := json.MarshalIndent(all, "", "  ")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(recordFile, append(data, '\n'), 0o600))
}
