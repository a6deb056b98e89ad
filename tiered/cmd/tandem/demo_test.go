package main

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/redisserver"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/demo"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/replay"
)

// short makes a demo that takes few seconds.
var short = []string{
	"demo", "-readers", "60", "-samples", "30", "-rounds", "6", "-cuts", "4", "-silences", "1",
	"-load", "5ms", "-max-staleness", "3s",
}

func TestDemo(t *testing.T) {
	t.Parallel()
	got := tandem(t, "", append(short, "-json")...)
	require.Equal(t, exitOK, got.code, got.errOut)
	require.Empty(t, got.errOut)
	requireDemo(t, got.out)
}

func requireDemo(t *testing.T, out string) {
	t.Helper()
	var r demo.Report
	dec := json.NewDecoder(strings.NewReader(out))
	require.NoError(t, dec.Decode(&r))
	require.False(t, dec.More(), "one document and nothing else")
	require.True(t, r.OK)
	require.Empty(t, r.Failure)
	require.NotEmpty(t, r.Redis)
	require.EqualValues(t, 1, r.Burst.Loads)
	require.Equal(t, 60, r.Burst.Readers)
	require.GreaterOrEqual(t, r.Burst.Wall, r.Burst.SourceTook)
	require.Equal(t, 30, r.Latency.Remote.Samples)
	require.Positive(t, r.Latency.Local.P50)
	require.Less(t, r.Latency.Local.P50, r.Latency.Remote.P50)
	require.Equal(t, 6, r.Invalidation.Returned.Samples)
	require.Positive(t, r.Invalidation.Evicted.Samples)
	require.LessOrEqual(t, r.Invalidation.Evicted.Samples, 12)
	require.EqualValues(t, 1, r.OldLoad.Returned)
	require.EqualValues(t, 2, r.OldLoad.Current)
	require.EqualValues(t, 1, r.OldLoad.Refused)
	require.GreaterOrEqual(t, r.Outage.Sessions, uint64(5))
	require.Positive(t, r.Outage.Missed)
	require.Positive(t, r.Outage.Reads.Reads)
	require.Zero(t, r.Outage.Reads.Late+r.Outage.Reads.Own+r.Outage.Reads.Wrong)
	require.Len(t, r.Totals, 3)
}

func TestDemoForPeople(t *testing.T) {
	t.Parallel()
	got := tandem(t, "", append(short, "-instances", "2", "-cuts", "1", "-silences", "0")...)
	require.Equal(t, exitOK, got.code, got.errOut)
	for _, want := range []string{"tandem demo", "\n1  ", "\n2  ", "\n3  ", "\n4  ", "\n5  ", "\n6  ", "ok  all of it held"} {
		require.Contains(t, got.out, want)
	}
	require.NotContains(t, got.out, "\x1b", "no colour without a terminal")
	require.NotContains(t, got.out, "\r", "no progress without a terminal")
	for line := range strings.Lines(got.out) {
		require.LessOrEqual(t, len([]rune(line)), 101, line)
	}
}

func TestDemoOnRedisLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	srv := redisserver.Run(t, redisserver.Options{})
	rdb := srv.Client()

	got := tandem(t, "", append(short, "-json", "-redis", srv.Addr())...)
	require.Equal(t, exitOK, got.code, got.errOut)
	requireDemo(t, got.out)
	require.Zero(t, rdb.DBSize(t.Context()).Val(), rdb.Keys(t.Context(), "*").Val())

	got = tandem(t, "", "demo", "-json", "-redis", srv.Addr(), "-trace", trace(t, 5000), "-writes", "10")
	require.Equal(t, exitOK, got.code, got.errOut)
	require.Zero(t, rdb.DBSize(t.Context()).Val(), rdb.Keys(t.Context(), "*").Val())
}

// The point of the demo: on a Redis that does not do what it says, it fails.
func TestDemoFailsWhereAPromiseIsBroken(t *testing.T) {
	t.Parallel()
	m := lyingRedis(t)
	got := tandem(t, "", append(short, "-redis", m.Addr(), "-json")...)
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.errOut, "still reads user:7 in version 1, the source is at 2")
	var r demo.Report
	require.NoError(t, json.Unmarshal([]byte(got.out), &r))
	require.False(t, r.OK)
	require.Contains(t, r.Failure, "still reads user:7 in version 1, the source is at 2")
	require.NotNil(t, r.Burst, "what was measured before is reported")
	require.Nil(t, r.Invalidation)

	got = tandem(t, "", append(short, "-redis", m.Addr())...)
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.out, "FAILED  round")
}

func TestReplay(t *testing.T) {
	t.Parallel()
	got := tandem(t, "", "demo", "-json", "-trace", trace(t, 20_000), "-limit", "4000", "-writes", "5", "-workers", "2", "-load", "0s")
	require.Equal(t, exitOK, got.code, got.errOut)
	var r replay.Report
	require.NoError(t, json.Unmarshal([]byte(got.out), &r))
	require.True(t, r.OK)
	require.Equal(t, 4000, r.Accesses)
	require.EqualValues(t, 4000, r.Judged.Reads)
	require.Zero(t, r.Judged.Late+r.Judged.Own+r.Judged.Wrong)
	require.Positive(t, r.LocalHits)
	require.Positive(t, r.RemoteHits)
	require.Positive(t, r.Commands)
	require.Positive(t, r.Loads)
	require.Positive(t, r.Writes.Invalidates)
	require.Positive(t, r.Writes.Sets)
	require.Len(t, r.Totals, 3)
}

func TestReplayForPeople(t *testing.T) {
	t.Parallel()
	got := tandem(t, "", "demo", "-trace", trace(t, 2000), "-writes", "5")
	require.Equal(t, exitOK, got.code, got.errOut)
	for _, want := range []string{"2,000 accesses", "answered by L1", "Redis commands for each read", "must be 0", "ok  every read"} {
		require.Contains(t, got.out, want)
	}
	for line := range strings.Lines(got.out) {
		require.LessOrEqual(t, len([]rune(line)), 101, line)
	}
}

func TestReplayFailsWhereAPromiseIsBroken(t *testing.T) {
	t.Parallel()
	m := lyingRedis(t)
	got := tandem(t, "", "demo", "-json", "-redis", m.Addr(), "-trace", trace(t, 4000), "-writes", "20", "-max-staleness", "100ms")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.errOut, "older than a write that had returned on the same instance")
	var r replay.Report
	require.NoError(t, json.Unmarshal([]byte(got.out), &r))
	require.False(t, r.OK)
	require.Positive(t, r.Judged.Own)
	require.NotEmpty(t, r.Judged.Examples)
}

func TestReplayRefusesWhatIsNoTrace(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "trace")
	require.NoError(t, os.WriteFile(path, []byte("1\n2\nthree\n"), 0o600))
	got := tandem(t, "", "demo", "-trace", path)
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.errOut, `line 3 is "three", not a decimal id`)
	got = tandem(t, "", "demo", "-trace", path+".none")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.errOut, "no such file")
}

// trace writes a gzipped trace in which a few ids are asked for often.
func trace(t *testing.T, accesses int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "trace.gz")
	file, err := os.Create(path)
	require.NoError(t, err)
	zip := gzip.NewWriter(file)
	for n := range accesses {
		id := n % 7
		if n%3 == 0 {
			id = n % 501
		}
		_, err := fmt.Fprintln(zip, id-3) // some ids are negative
		require.NoError(t, err)
	}
	require.NoError(t, zip.Close())
	require.NoError(t, file.Close())
	return path
}
