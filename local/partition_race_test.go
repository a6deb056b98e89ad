package local

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
)

const calm, stormy = 0, 1 // partitions

// traffic is readers of both partitions of a store, who load what they miss.
type traffic struct {
	s    *Store[int64]
	keys [2][16]track
	hits [2]atomic.Int64
	stop chan struct{}
	halt func() // and waits
}

// track is one key's source, and the version that everybody has been told of.
type track struct{ source, told atomic.Int64 }

func name(partition, i int) string { return fmt.Sprint(partition, "/", i) }

func newTraffic(t *testing.T) *traffic {
	t.Helper()
	s, err := New(Options[int64]{Bytes: 4 << 20, MaxStaleness: time.Hour, Partitions: 2})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	r := &traffic{s: s, stop: make(chan struct{})}
	s.Begin(calm)
	s.Begin(stormy)
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() { r.read(t) })
	}
	r.halt = sync.OnceFunc(func() { close(r.stop); all.Wait() })
	t.Cleanup(r.halt)
	return r
}

// read fails if a hit is older than what had been told of when it began.
func (r *traffic) read(t *testing.T) {
	for {
		select {
		case <-r.stop:
			return
		default:
		}
		p, i := rand.IntN(2), rand.IntN(len(r.keys[0]))
		k, key := &r.keys[p][i], name(p, i)
		least := k.told.Load()
		if e := r.s.Get(key); e != nil {
			r.hits[p].Add(1)
			if e.Value < least {
				t.Errorf("%s is %d after %d", key, e.Value, least)
			}
			continue
		}
		ticket := r.s.Ticket(p, key)
		r.s.Put(key, k.source.Load(), r.s.Tagged(ticket, []string{"tag"}), time.Hour)
	}
}

// change has the partition's source go on, drops what is held of it, says so, and lets some read what is new.
func (r *traffic) change(t *testing.T, partition int, drop func()) {
	var now [len(r.keys[0])]int64
	for i := range r.keys[partition] {
		now[i] = r.keys[partition][i].source.Add(1)
	}
	drop()
	for i := range r.keys[partition] {
		r.keys[partition][i].told.Store(now[i])
	}
	r.awaitHit(t, partition)
}

func (r *traffic) awaitHit(t *testing.T, partition int) {
	before, began := r.hits[partition].Load(), time.Now()
	for r.hits[partition].Load() == before {
		if time.Since(began) > 30*time.Second {
			t.Error("nobody hits")
			return
		}
		runtime.Gosched()
	}
}

// storm is the n-th of the things that happen to a partition.
func storm(s *Store[int64], n int) {
	switch n % 4 {
	case 0:
		s.Flush(stormy)
	case 1:
		s.EvictTags(stormy, "tag", "another")
	case 2:
		s.End(stormy)
	case 3:
		s.Begin(stormy)
	}
}

// One partition is flushed, evicted by tags, ended, begun and proven beside hits, puts and evictions of the other: no hit of
// either is older than it may be.
func TestPartitionsBesideEachOther(t *testing.T) {
	t.Parallel()
	r := newTraffic(t)
	const rounds = 400
	var changes sync.WaitGroup
	changes.Go(func() {
		for i := 0; i < rounds && !t.Failed(); i++ {
			r.change(t, stormy, func() { storm(r.s, i) })
		}
	})
	changes.Go(func() {
		for i := 0; i < rounds && !t.Failed(); i++ {
			r.s.Prove(i%2, mono.Now())
			r.awaitHit(t, i%2)
		}
	})
	changes.Go(func() {
		for i := 0; i < rounds && !t.Failed(); i++ {
			r.change(t, calm, func() {
				for i := range r.keys[calm] {
					r.s.Evict(name(calm, i))
				}
			})
		}
	})
	changes.Wait()
}

// What one partition holds is served all the time, whatever the other goes through, and by its own proof alone.
func TestAPartitionIsServedBesideAStormInAnother(t *testing.T) {
	t.Parallel()
	r := newTraffic(t)
	const stays = 50
	var tickets [stays]Ticket
	for i := range stays {
		key := fmt.Sprint("stays", i)
		require.True(t, r.s.Put(key, 1, r.s.Tagged(r.s.Ticket(calm, key), []string{"tag"}), time.Hour))
		tickets[i] = r.s.Ticket(calm, key)
	}
	for i := range 400 {
		storm(r.s, i)
		r.s.Prove(stormy, mono.Now())
		require.NotNil(t, r.s.Get(fmt.Sprint("stays", i%stays)), "after %d", i)
		require.True(t, r.s.Live(tickets[i%stays]))
		require.Equal(t, mono.Never, r.s.Proof(calm))
		r.awaitHit(t, stormy)
	}
}
