package history_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/chaos/internal/history"
)

const (
	bound = 2 * time.Second
	sec   = int64(time.Second)
)

// judge runs a hand-written history of one key and two instances.
func judge(t *testing.T, batches ...history.Batch) history.Result {
	t.Helper()
	c := history.New(history.Options{Keys: 2, Bound: bound, Committed: func(int) int64 { return 100 }})
	c.Join(1, 0)
	c.Join(2, 0)
	for _, b := range batches {
		c.Add(b)
	}
	// Complete, and all is judged: an instance that leaves takes its own acknowledgements along.
	c.Add(history.Batch{Instance: 1, Complete: 1000 * sec})
	c.Add(history.Batch{Instance: 2, Complete: 1000 * sec})
	require.Zero(t, c.Waiting())
	r := c.Result()
	require.Zero(t, r.Late)
	return r
}

func acked(instance int, version, end int64) history.Write {
	return history.Write{Instance: instance, Version: version, Commit: end - 2, Start: end - 1, End: end}
}

func pending(instance int, version, end int64) history.Write {
	w := acked(instance, version, end)
	w.Outcome = history.Pending
	return w
}

func read(instance int, version, start int64) history.Read {
	return history.Read{Instance: instance, Version: version, Start: start, End: start + 1}
}

// reads are judged as the instances' that they name, whoever brings them.
func reads(r ...history.Read) history.Batch { return history.Batch{Instance: 2, Reads: r} }

func writes(w ...history.Write) history.Batch { return history.Batch{Instance: 1, Writes: w} }

func TestJudgement(t *testing.T) {
	t.Parallel()
	two := writes(acked(1, 1, 1*sec), acked(1, 2, 10*sec))
	tests := []struct {
		name    string
		batches []history.Batch
		c2, c3  int
		worst   time.Duration
	}{
		{name: "nothing written", batches: []history.Batch{reads(read(2, 0, sec))}},
		{name: "own write, at once", batches: []history.Batch{two, reads(read(1, 1, 10*sec))}, c2: 1},
		{name: "own write, before it is acknowledged", batches: []history.Batch{two, reads(read(1, 1, 10*sec-1))}},
		{name: "own write, new value", batches: []history.Batch{two, reads(read(1, 2, 10*sec))}},
		{name: "own write, new value before the acknowledgement", batches: []history.Batch{two, reads(read(1, 2, 9*sec))}},
		{name: "other's write, within the bound", batches: []history.Batch{two, reads(read(2, 1, 12*sec))}, worst: 2 * time.Second},
		{name: "other's write, past the bound", batches: []history.Batch{two, reads(read(2, 1, 12*sec+1))}, c3: 1, worst: 2*time.Second + 1},
		{name: "own write, past the bound", batches: []history.Batch{two, reads(read(1, 1, 13*sec))}, c2: 1, c3: 1, worst: 3 * time.Second},
		{
			name:    "staleness counts from the first newer version",
			batches: []history.Batch{two, reads(read(2, 0, 11*sec))}, c3: 1, worst: 10 * time.Second,
		},
		{
			name:    "records in another order than the events",
			batches: []history.Batch{reads(read(2, 1, 13*sec)), writes(acked(1, 2, 10*sec)), writes(acked(1, 1, 1*sec))}, c3: 1, worst: 3 * time.Second,
		},
		{
			name:    "an older version acknowledged later claims nothing new",
			batches: []history.Batch{writes(acked(1, 2, 1*sec), acked(1, 1, 5*sec)), reads(read(1, 2, 9*sec), read(2, 2, 9*sec))},
		},
		{
			name:    "an older version acknowledged earlier claims its own",
			batches: []history.Batch{writes(acked(1, 2, 5*sec), acked(1, 1, 1*sec)), reads(read(2, 0, 4*sec))}, c3: 1, worst: 3 * time.Second,
		},
		{
			name:    "a failed write claims nothing",
			batches: []history.Batch{writes(history.Write{Instance: 1, Version: 1, End: sec, Outcome: history.Failed}), reads(read(1, 0, 9*sec))},
		},
		{name: "pending, on the writer", batches: []history.Batch{writes(pending(1, 1, sec)), reads(read(1, 0, sec))}, c2: 1},
		{name: "pending, elsewhere", batches: []history.Batch{writes(pending(1, 1, sec)), reads(read(2, 0, 60*sec))}},
		{
			name: "settled, elsewhere",
			batches: []history.Batch{
				writes(pending(1, 1, sec)),
				{Instance: 1, Settled: []history.Settled{{Instance: 1, Version: 1, At: 9 * sec}}},
				reads(read(2, 0, 11*sec), read(2, 0, 11*sec+1)),
			},
			c3: 1, worst: 2*time.Second + 1,
		},
		{
			name:    "another key's writes are another's",
			batches: []history.Batch{two, reads(history.Read{Instance: 1, Key: 1, Start: 60 * sec})},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := judge(t, tt.batches...)
			require.Equal(t, tt.c2, r.C2, "C2")
			require.Equal(t, tt.c3, r.C3, "C3")
			require.Equal(t, tt.worst, r.Worst)
			require.Len(t, r.Samples, tt.c2+tt.c3)
			require.Zero(t, r.Unreal)
		})
	}
}

func TestAReadWaitsForTheWritesBeforeIt(t *testing.T) {
	t.Parallel()
	c := history.New(history.Options{Keys: 1, Bound: bound})
	c.Join(1, 0)
	c.Join(2, 0)
	c.Add(history.Batch{Instance: 2, Complete: 60 * sec, Reads: []history.Read{read(2, 0, 13*sec), read(2, 1, 30*sec)}})
	require.Equal(t, 2, c.Waiting(), "instance 1 may have written")
	c.Add(history.Batch{Instance: 1, Complete: 20 * sec, Writes: []history.Write{acked(1, 1, 10*sec)}})
	require.Equal(t, 1, c.Waiting())
	require.Equal(t, 1, c.Result().C3)
	c.Leave(1)
	require.Zero(t, c.Waiting())
	require.Equal(t, 2, c.Result().Reads)
}

func TestARecordThatComesTooLateIsAMistakeOfTheHarness(t *testing.T) {
	t.Parallel()
	c := history.New(history.Options{Keys: 1, Bound: bound})
	c.Join(1, 0)
	c.Add(history.Batch{Instance: 1, Complete: 20 * sec})
	c.Add(history.Batch{Instance: 1, Complete: 30 * sec, Writes: []history.Write{acked(1, 1, 19*sec)}})
	require.NotZero(t, c.Result().Late)
}

func TestFailedReadsAndUnrealVersionsAreCounted(t *testing.T) {
	t.Parallel()
	r := judge(t, reads(history.Read{Instance: 2, Err: "broken"}, read(2, 101, sec), read(2, 100, sec)))
	require.Equal(t, 1, r.Failed)
	require.Equal(t, map[string]int{"broken": 1}, r.Errors)
	require.Equal(t, 1, r.Unreal)
	require.Equal(t, 2, r.Reads)
}

func TestAKillsOwnWritesAreForgottenOnlyAfterItsReads(t *testing.T) {
	t.Parallel()
	c := history.New(history.Options{Keys: 1, Bound: bound})
	c.Join(1, 0)
	c.Join(2, 0)
	c.Add(history.Batch{Instance: 1, Writes: []history.Write{acked(1, 1, sec)}, Reads: []history.Read{read(1, 0, 2*sec)}})
	c.Leave(1)
	require.Equal(t, 1, c.Waiting())
	c.Leave(2)
	require.Equal(t, 1, c.Result().C2)
}

// A key that is written for hours keeps its last acknowledgements alone, and is judged by them.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	c := history.New(history.Options{Keys: 1, Bound: bound})
	c.Join(1, 0)
	const many = 100_000
	for i := range int64(many) {
		c.Add(history.Batch{Instance: 1, Complete: i * sec, Writes: []history.Write{acked(1, i+1, (i+1)*sec)}})
	}
	c.Add(history.Batch{Instance: 1, Complete: 2 * many * sec, Reads: []history.Read{
		read(1, 0, many*sec), read(1, many-2, many*sec), read(1, many, many*sec),
	}})
	r := c.Result()
	require.Equal(t, 2, r.C2)
	require.Equal(t, 1, r.C3, "the version before the last but one is within the bound")
	require.Greater(t, r.Worst, 500*time.Second)
	require.LessOrEqual(t, history.Steps(c, 0), 2048)

	require.Zero(t, r.Late)
	c.Add(history.Batch{Instance: 1, Reads: []history.Read{read(1, 0, sec)}})
	c.Add(history.Batch{Instance: 1, Complete: 3 * many * sec})
	require.Positive(t, c.Result().Late, "a read from before what is known is not found right")
}
