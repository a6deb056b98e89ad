package faults

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered"
)

// judge holds every read of one writer's keys to the contract: on the writer nothing old once Invalidate has returned, on
// other instances nothing old bound later. A read counts from a moment before its call, which can only excuse it.
type judge struct {
	source *source
	bound  time.Duration

	reads, late, wrong, failed atomic.Int64
	stalest                    most // on other instances
	slowest                    most // Get

	mu   sync.Mutex // protects acks
	acks map[string][]ack
}

// ack is an invalidation that has returned.
type ack struct {
	at      time.Time
	version int64
	own     bool // it was not confirmed by Redis: the writer alone must know
}

func newJudge(s *source, bound time.Duration) *judge {
	return &judge{source: s, bound: bound, acks: make(map[string][]ack)}
}

// write changes the source and invalidates. It returns whether Redis has confirmed, and the version.
func (j *judge) write(t testing.TB, writer *cache, key string) (confirmed bool, version int64) {
	t.Helper()
	v := j.source.write(key)
	err := writer.Invalidate(context.Background(), key)
	if err != nil && !errors.Is(err, tiered.ErrPending) {
		t.Errorf("Invalidate: %v", err)
	}
	j.acknowledge(key, v, err)
	return err == nil, v
}

// acknowledge takes note that a Set or Invalidate has returned a moment ago, with err.
func (j *judge) acknowledge(key string, version int64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.acks[key] = append(j.acks[key], ack{time.Now(), version, err != nil})
}

// read gets key from c, judges what it is given, and returns the version.
func (j *judge) read(c *cache, key string, own bool) int64 {
	began := time.Now()
	v, err := c.Get(context.Background(), key)
	j.slowest.note(time.Since(began))
	j.reads.Add(1)
	switch {
	case err != nil:
		j.failed.Add(1)
		return -1
	case !v.of(key):
		j.wrong.Add(1)
		return -1
	}
	old := j.old(key, v.Version, began, own)
	if !own {
		j.stalest.note(old)
	}
	if (own && old > 0) || old > j.bound {
		j.late.Add(1)
	}
	return v.Version
}

// old is how long before began the version had been replaced.
func (j *judge) old(key string, version int64, began time.Time, own bool) time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	acks := j.acks[key]
	var replaced time.Time
	for i := len(acks) - 1; i >= 0 && acks[i].version > version; i-- {
		if own || !acks[i].own {
			replaced = acks[i].at
		}
	}
	if replaced.IsZero() {
		return 0
	}
	return max(0, began.Sub(replaced))
}

// readers read keys from c until stop is called, which waits for them. They leave the machine some air: with all of its cores
// taken by hits in L1, what is seen is its scheduler.
func (j *judge) readers(n int, c *cache, own bool, keys ...string) (stop func()) {
	over := make(chan struct{})
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-over:
					return
				default:
				}
				j.read(c, keys[i%len(keys)], own)
				if i%200 == 0 {
					time.Sleep(200 * time.Microsecond)
				}
			}
		})
	}
	return sync.OnceFunc(func() {
		close(over)
		wg.Wait()
	})
}

// sentence is the judgement in figures.
func (j *judge) sentence() string {
	return fmt.Sprintf("%d reads judged: late %d, wrong %d, failed %d; stalest %v of %v, slowest %v",
		j.reads.Load(), j.late.Load(), j.wrong.Load(), j.failed.Load(), j.stalest.get().Round(time.Microsecond), j.bound,
		j.slowest.get().Round(time.Microsecond))
}

// acquit fails the test if any read broke the contract.
func (j *judge) acquit(t testing.TB) {
	t.Helper()
	require.Positive(t, j.reads.Load())
	require.Zero(t, j.late.Load(), "late")
	require.Zero(t, j.wrong.Load(), "wrong")
	require.Zero(t, j.failed.Load(), "failed")
}

// The judge sees what it is there for.
func TestTheJudge(t *testing.T) {
	s := newSource(0)
	j := newJudge(s, time.Second)
	now := time.Now()
	j.acks["k"] = []ack{{now.Add(-3 * time.Second), 1, false}, {now.Add(-2 * time.Second), 2, true}}
	require.Equal(t, 3*time.Second, j.old("k", 0, now, false), "replaced by version 1")
	require.Zero(t, j.old("k", 1, now, false), "version 2 was not confirmed: others may not know")
	require.Equal(t, 2*time.Second, j.old("k", 1, now, true))
	require.Zero(t, j.old("k", 2, now, true))
	require.Zero(t, j.old("k", 0, now.Add(-4*time.Second), true), "a read from before")
	require.Zero(t, j.old("other", 0, now, true))
}
