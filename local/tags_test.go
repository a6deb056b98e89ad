package local

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
)

// taggedStore returns a store in which none of the tags of these tests shares a slot with another one.
func taggedStore(t testing.TB) *Store[string] {
	t.Helper()
	for {
		s := newStore(t, time.Hour)
		different := map[*atomic.Uint64]bool{}
		for _, tag := range []string{"red", "green", "blue"} {
			for _, slot := range s.Tagged(s.Ticket(0, "k"), []string{tag}).tags.slots {
				different[slot] = true
			}
		}
		if len(different) == 3 {
			return s
		}
	}
}

func TestEvictTagsDropsWhatHasOne(t *testing.T) {
	t.Parallel()
	s := taggedStore(t)
	entries := map[string][]string{
		"r": {"red"}, "g": {"green"}, "rg": {"red", "green"}, "rgb": {"blue", "green", "red"}, "none": nil,
	}
	fill := func() {
		for key, tags := range entries {
			require.True(t, s.Put(key, key, s.Tagged(s.Ticket(0, key), tags), time.Hour))
		}
	}
	left := func() (keys []string) {
		for key := range entries {
			if s.Get(key) != nil {
				keys = append(keys, key)
			}
		}
		return keys
	}
	fill()
	require.Len(t, left(), 5)
	s.EvictTags(0, "red")
	require.ElementsMatch(t, []string{"g", "none"}, left())
	fill()
	s.EvictTags(0, "blue", "another")
	require.ElementsMatch(t, []string{"r", "g", "rg", "none"}, left())
	s.EvictTags(0, "green", "red")
	require.ElementsMatch(t, []string{"none"}, left())
}

// A ticket from before the eviction stores nothing that has the tag, and anything else.
func TestATicketFromBeforeATagWasEvicted(t *testing.T) {
	t.Parallel()
	for _, first := range []bool{false, true} { // whether there have been entries with tags before
		s := taggedStore(t)
		if !first {
			s = newStore(t, time.Hour)
		}
		old := s.Ticket(0, "k")
		require.True(t, s.Live(old))
		require.True(t, s.Good("k", old))
		s.EvictTags(0, "red")
		require.False(t, s.Live(old), "which tags its value has is not known")
		require.False(t, s.Good("k", old))
		require.False(t, s.Put("k", "old", s.Tagged(old, []string{"green", "red"}), time.Hour))
		require.Nil(t, s.Get("k"))
		require.True(t, s.Put("k", "old", old, time.Hour), "it has no tags")
		require.NotNil(t, s.Get("k"))
		young := s.Ticket(0, "k")
		require.True(t, s.Live(young))
		require.True(t, s.Put("k", "young", s.Tagged(young, []string{"green", "red"}), time.Hour))
		require.Equal(t, "young", value(s.Get("k")))
	}
}

// The process stops between the reading of the proof and that of the tags: what it is told meanwhile counts.
func TestTheOrderOfAHitWithTags(t *testing.T) {
	t.Parallel()
	s := taggedStore(t)
	require.True(t, s.Put("k", "v", s.Tagged(s.Ticket(0, "k"), []string{"red"}), time.Hour))
	require.NotNil(t, s.Get("k"))
	now := s.now
	s.now = func() int64 {
		s.EvictTags(0, "red")
		s.Prove(0, mono.Now())
		return now()
	}
	require.Nil(t, s.Get("k"))
}

// Whatever is stored beside evictions, nothing is found afterwards that was read before the last of them.
func TestTagsBesideEvictions(t *testing.T) {
	t.Parallel()
	s := newStore(t, time.Hour)
	const keys, tags = 50, 5
	var source, evicted [tags]atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				i := rand.IntN(keys)
				key, tag := fmt.Sprint(i), i%tags
				before := evicted[tag].Load()
				if e := s.Get(key); e != nil {
					var v int64
					_, err := fmt.Sscan(e.Value, &v)
					if err != nil || v < before {
						t.Errorf("%s: %q after %d, %v", key, e.Value, before, err)
					}
					continue
				}
				ticket := s.Ticket(0, key)
				read := fmt.Sprint(source[tag].Load())
				s.Put(key, read, s.Tagged(ticket, []string{fmt.Sprint("tag ", tag)}), time.Hour)
			}
		})
	}
	for range 2000 {
		tag := rand.IntN(tags)
		n := source[tag].Load() + 1
		source[tag].Store(n)
		s.EvictTags(0, fmt.Sprint("tag ", tag))
		evicted[tag].Store(n)
	}
	close(stop)
	wg.Wait()
	for i := range keys {
		if e := s.Get(fmt.Sprint(i)); e != nil {
			require.Equal(t, fmt.Sprint(source[i%tags].Load()), e.Value)
		}
	}
}

func TestAHitWithTagsDoesNotAllocate(t *testing.T) {
	s := taggedStore(t)
	require.True(t, s.Put("k", "v", s.Tagged(s.Ticket(0, "k"), []string{"red", "green"}), time.Hour))
	require.Zero(t, testing.AllocsPerRun(100, func() { s.Get("k") }))
}

// What has expired stands in for nothing once one of its tags is evicted.
func TestStandsWithTags(t *testing.T) {
	t.Parallel()
	s := taggedStore(t)
	require.True(t, s.Put("k", "v", s.Tagged(s.Ticket(0, "k"), []string{"green", "red"}), time.Hour))
	e := s.Get("k")
	require.NotNil(t, e)
	s.EvictTags(0, "blue")
	require.True(t, s.Stands(e))
	s.EvictTags(0, "red")
	require.False(t, s.Stands(e))
}

func TestTagsOfOneEntryAreCounted(t *testing.T) {
	t.Parallel()
	s := taggedStore(t)
	plain := s.cost.of(&Entry[string]{key: "k"})
	marked := s.cost.of(&Entry[string]{key: "k", ticket: s.Tagged(s.Ticket(0, "k"), []string{"green", "red"}).stamp})
	require.Greater(t, marked, plain+2*8)
}
