package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/bench/internal/measure"
	"github.com/tandemcache/tandem/tests/bench/internal/peers"
	"github.com/tandemcache/tandem/tests/bench/internal/section"
	"github.com/tandemcache/tandem/tests/redisserver"
)

var update = flag.Bool("update", false, "write the ratios that TestHitsHaveNotBecomeSlower finds to "+recordFile)

// recordFile holds, for each comparison of the guard, tandem's time an operation as a ratio to the baseline's in the same run.
// Absolute times differ from machine to machine; these ratios do far less.
const recordFile = "baseline.json"

const (
	guardRounds   = 11
	updateRounds  = 25
	guardTime     = 100 * time.Millisecond
	guardAttempts = 3 // a machine that is busy with other things is given two more chances

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
	name       string
	list       []peers.Peer
	baseline   string
	goroutines []int
	run        func(context.Context, section.Config, []peers.Peer, []int) (section.Hits, error)
}

var guarded = []comparison{
	{"L1 hit", []peers.Peer{peers.RistrettoTTL(), peers.Tandem()}, peers.LocalBaseline, []int{1, 16}, section.LocalHits},
	{"L2 hit", []peers.Peer{peers.Plain(), peers.TandemRemote()}, peers.RemoteBaseline, []int{1, 64}, section.RemoteHits},
}

// ratios returns tandem's ratio for each number of goroutines, by the names in the record.
func (c comparison) ratios(t *testing.T, addr string, rounds int) map[string]float64 {
	t.Helper()
	found, err := c.run(t.Context(), section.Config{Addr: addr, Rounds: rounds, Time: guardTime}, c.list, c.goroutines)
	require.NoError(t, err)
	ratios := map[string]float64{}
	for _, n := range c.goroutines {
		name := fmt.Sprintf("%s, %s / %s", c.name, section.Goroutines(n), c.baseline)
		ratios[name] = found[n].Ratio(peers.TandemName, c.baseline, measure.Cell.Nanos)
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
		t.Run(c.name, func(t *testing.T) {
			for attempt := 1; ; attempt++ {
				slower := c.slower(t, server.Addr(), recorded)
				if len(slower) == 0 {
					return
				}
				t.Logf("attempt %d of %d: %v", attempt, guardAttempts, slower)
				require.Less(t, attempt, guardAttempts, "more than a quarter of the recorded speed is lost: %v", slower)
			}
		})
	}
}

// slower measures once, and names what has lost too much of its speed.
func (c comparison) slower(t *testing.T, addr string, recorded map[string]float64) []string {
	t.Helper()
	var slower []string
	for name, measured := range c.ratios(t, addr, guardRounds) {
		require.Contains(t, recorded, name, "%s lacks it: run with -update", recordFile)
		t.Logf("%s: %.2f, recorded %.2f", name, measured, recorded[name])
		if lost(recorded[name], measured) {
			slower = append(slower, fmt.Sprintf("%s is %.2f, recorded %.2f", name, measured, recorded[name]))
		}
	}
	slices.Sort(slower)
	return slower
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
