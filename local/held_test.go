package local

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHeld(t *testing.T) {
	t.Parallel()
	s := newStore(t, time.Hour)
	put := func(key string) { require.True(t, s.Put(key, "v", s.Ticket(0, key), time.Minute)) }
	require.Nil(t, s.Held("k", 0))
	put("k")
	before := s.Usage()
	e := s.Held("k", 0)
	require.NotNil(t, e)
	require.Equal(t, before, s.Usage(), "it is no lookup")

	slot := s.slots.of(s.hash("k"))
	slot.entry.Store(nil) // another key has its turn
	require.Same(t, e, s.Held("k", 0))
	s.Evict("k")
	require.Nil(t, s.Held("k", 0))

	put("k")
	for name, end := range map[string]func(int){"Begin": s.Begin, "End": s.End, "Flush": s.Flush} {
		end(0)
		require.Nil(t, s.Held("k", time.Hour), name)
		put("k")
	}
	s.Close()
	require.Nil(t, s.Held("k", time.Hour))
}

// What is not served for want of a proof is when there is one again, and so it is held.
func TestHeldWithoutAProof(t *testing.T) {
	t.Parallel()
	s := newStore(t, time.Second)
	require.True(t, s.Put("k", "v", s.Ticket(0, "k"), time.Hour))
	now := s.now
	s.now = func() int64 { return now() + int64(time.Minute) }
	require.Nil(t, s.Get("k"))
	require.NotNil(t, s.Held("k", 0))
	s.now = func() int64 { return now() + int64(61*time.Minute) }
	require.Nil(t, s.Held("k", 0), "it has expired")
	require.NotNil(t, s.Held("k", time.Hour), "and may stand in")
}

func TestHeldBesideCloseAndChanges(t *testing.T) {
	t.Parallel()
	s := newStore(t, time.Hour)
	var all sync.WaitGroup
	for _, do := range []func(){
		func() { s.Held("k", 0) },
		func() { s.Put("k", "v", s.Ticket(0, "k"), time.Hour) },
		func() { s.Evict("k") },
		func() { s.slots.of(s.hash("k")).entry.Store(nil); s.Get("k") },
	} {
		all.Go(func() {
			for range 2000 {
				do()
			}
		})
	}
	time.AfterFunc(time.Millisecond, s.Close)
	all.Wait()
}
