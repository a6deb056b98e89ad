//go:build linux

package worker

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/chaos/internal/clock"
	"github.com/tandemcache/tandem/tests/chaos/internal/history"
)

func TestReportsAreNotCompletePastAWriteUnderWay(t *testing.T) {
	t.Parallel()
	r := newRecorder(1)
	before := clock.Now()
	id := r.begin()
	began := clock.Now()
	first := r.take()
	require.GreaterOrEqual(t, first.Batch.Complete, before)
	require.LessOrEqual(t, first.Batch.Complete, began)
	require.Equal(t, first.Batch.Complete, r.take().Batch.Complete, "it stays there")

	end := clock.Now()
	r.wrote(id, history.Write{Version: 1, End: end})
	second := r.take()
	require.Greater(t, second.Batch.Complete, end)
	require.Len(t, second.Batch.Writes, 1)
	require.Empty(t, r.take().Batch.Writes, "each record is reported once")
}

func TestOnlyWhatWasPendingBeforeTheQuestionIsSettled(t *testing.T) {
	t.Parallel()
	r := newRecorder(1)
	r.settle(func() bool { t.Error("nothing is pending, and it asks"); return true })
	r.wrote(r.begin(), history.Write{Version: 1, Outcome: history.Pending})
	r.settle(func() bool { return false })
	require.Empty(t, r.take().Batch.Settled)

	var asked Report
	r.settle(func() bool {
		asked = r.take()
		r.wrote(r.begin(), history.Write{Version: 2, Outcome: history.Pending}) // after the answer, for all it knows
		return true
	})
	settled := r.take().Batch.Settled
	require.Len(t, settled, 1)
	require.Equal(t, int64(1), settled[0].Version)
	require.LessOrEqual(t, asked.Batch.Complete, settled[0].At, "no report was complete past what came after it")

	r.settle(func() bool { return true })
	require.Len(t, r.take().Batch.Settled, 1)
}
