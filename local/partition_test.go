package local

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
)

// newParts returns a store of n partitions, each in a session with a proof.
func newParts(t testing.TB, n int, bound time.Duration) *Store[string] {
	t.Helper()
	s, err := New(Options[string]{Bytes: 4 << 20, MaxStaleness: bound, Partitions: n})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	for p := range n {
		s.Begin(p)
		s.Prove(p, mono.Now())
	}
	return s
}

// keyIn returns the key that a partition has in these tests.
func keyIn(partition int) string { return fmt.Sprint("k", partition) }

// What is done to one partition voids what it has, in whatever form, and nothing of the others.
func TestWhatIsDoneToAPartitionIsItsOwn(t *testing.T) {
	t.Parallel()
	const parts = 3
	for name, do := range map[string]func(s *Store[string], partition int){
		"Begin":     (*Store[string]).Begin,
		"End":       (*Store[string]).End,
		"Flush":     (*Store[string]).Flush,
		"EvictTags": func(s *Store[string], partition int) { s.EvictTags(partition, "red") },
	} {
		for changed := range parts {
			t.Run(fmt.Sprint(name, changed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s := newParts(t, parts, time.Hour)
					defer s.Close()
					var tickets, tagged [parts]Ticket
					var served [parts]*Entry[string]
					for p := range parts {
						red := []string{"red"}
						require.True(t, s.Put(keyIn(p), "v", s.Tagged(s.Ticket(p, keyIn(p)), red), time.Hour))
						require.True(t, s.Put("expired"+keyIn(p), "v", s.Tagged(s.Ticket(p, "expired"+keyIn(p)), red), time.Second))
						served[p] = s.Get(keyIn(p))
						tickets[p] = s.Ticket(p, "new"+keyIn(p))
						tagged[p] = s.Tagged(tickets[p], red)
					}
					time.Sleep(2 * time.Second)
					do(s, changed)
					for p := range parts {
						stays := p != changed
						require.Equal(t, stays, s.Get(keyIn(p)) != nil, p)
						require.Equal(t, stays, s.Held(keyIn(p), 0) != nil, p)
						require.Equal(t, stays, s.Serves(served[p]), p)
						require.Equal(t, stays, s.Stands(served[p]), p)
						require.Equal(t, stays, s.Expired("expired"+keyIn(p), time.Minute) != nil, p)
						require.Equal(t, stays, s.Live(tickets[p]), p)
						require.Equal(t, stays, s.Good("new"+keyIn(p), tickets[p]), p)
						require.Equal(t, stays, s.Put("new"+keyIn(p), "v", tagged[p], time.Hour), p)
						require.Equal(t, stays, s.Get("new"+keyIn(p)) != nil, p)
					}
				})
			})
		}
	}
}

// A partition that proves nothing is not served by what another one proves, nor is what it had vouched for by its next session.
func TestAProofIsOfOnePartition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newParts(t, 3, time.Second)
		defer s.Close()
		put := func() {
			for p := range 3 {
				require.True(t, s.Put(keyIn(p), "v", s.Ticket(p, keyIn(p)), time.Hour))
			}
		}
		hit := func() (parts []int) {
			for p := range 3 {
				if s.Get(keyIn(p)) != nil {
					parts = append(parts, p)
				}
			}
			return parts
		}
		put()
		require.Equal(t, []int{0, 1, 2}, hit())
		time.Sleep(time.Second + 1)
		require.Empty(t, hit())
		s.Prove(1, mono.Now())
		require.Equal(t, []int{1}, hit())
		require.Equal(t, []int64{mono.Now() - int64(time.Second+1), mono.Now()}, []int64{s.Proof(0), s.Proof(1)})

		s.End(2)
		s.Flush(1)
		require.Equal(t, []int64{mono.Now(), mono.Never}, []int64{s.Proof(1), s.Proof(2)}, "Flush keeps its own")
		put()
		time.Sleep(time.Second)
		s.Prove(0, mono.Now())
		time.Sleep(1)
		require.Equal(t, []int{0}, hit())
	})
}

// The message about a tag comes to each partition at its own time: what is read after that of its own partition stays.
func TestATagsEvictionInAnotherPartitionLater(t *testing.T) {
	t.Parallel()
	for _, first := range []bool{false, true} { // whether there have been entries with tags before
		s := newParts(t, 2, time.Hour)
		red := []string{"red"}
		if first {
			s.Tagged(s.Ticket(0, "k"), red)
		}
		s.EvictTags(0, "red")
		ticket := s.Ticket(0, "k")
		s.EvictTags(1, "red")
		require.True(t, s.Live(ticket), "a load may be joined")
		require.True(t, s.Good("k", ticket))
		require.True(t, s.Put("k", "v", s.Tagged(ticket, red), time.Hour))
		require.NotNil(t, s.Get("k"))
		for range 3 {
			s.EvictTags(1, "red", "blue")
			require.NotNil(t, s.Get("k"))
		}
		s.EvictTags(0, "red")
		require.Nil(t, s.Get("k"))
		require.False(t, s.Put("k", "v", s.Tagged(ticket, red), time.Hour))
	}
}

// Evictions of other tags void no entry, in whichever partition: there are not as many slots taken as there are partitions.
func TestTagsOfManyPartitionsShareSlots(t *testing.T) {
	t.Parallel()
	const parts = 64
	s := newParts(t, parts, time.Hour)
	const entries = 500
	for i := range entries {
		key := fmt.Sprint(i)
		require.True(t, s.Put(key, "v", s.Tagged(s.Ticket(i%parts, key), []string{"tag of " + key}), time.Hour))
	}
	all := s.tags.slots(s.entries)
	const evicted = 100
	for i := range evicted {
		for p := range parts {
			s.EvictTags(p, fmt.Sprint("another tag ", i))
		}
	}
	void := 0
	for i := range entries {
		if s.Get(fmt.Sprint(i)) == nil {
			void++
		}
	}
	// Expected are entries*evicted/slots, with some luck.
	require.Less(t, void, 3*entries*evicted/len(all)+5, "of %d, with %d slots", entries, len(all))
}

func TestAHitOfManyPartitionsDoesNotAllocate(t *testing.T) {
	s := newParts(t, 64, time.Hour)
	for p := range 64 {
		require.True(t, s.Put(keyIn(p), "v", s.Tagged(s.Ticket(p, keyIn(p)), []string{"red"}), time.Hour))
	}
	keys := []string{keyIn(0), keyIn(17), keyIn(63)}
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		for _, key := range keys {
			if s.Get(key) == nil {
				t.Fatal("miss")
			}
		}
	}))
}

// A hit reads the clock once, and goes on whatever is being done to its partition, to its key and to all of the store.
func TestAHitWaitsForNobody(t *testing.T) {
	t.Parallel()
	s := newParts(t, 2, time.Hour)
	require.True(t, s.Put("k", "v", s.Tagged(s.Ticket(1, "k"), []string{"red"}), time.Hour))
	for range saturated {
		require.NotNil(t, s.Get("k"))
	}
	readings, now := 0, s.now
	s.now = func() int64 { readings++; return now() }
	s.partitions[1].mu.Lock()
	s.tags.mu.Lock()
	s.writes.Lock()
	over := s.change(s.hash("k"))
	hit := make(chan bool, 1)
	go func() { hit <- s.Get("k") != nil }()
	select {
	case ok := <-hit:
		if !ok || readings != 1 {
			t.Errorf("a hit: %v; it has read the clock %d times", ok, readings)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits for a lock")
	}
	over()
	s.writes.Unlock()
	s.tags.mu.Unlock()
	s.partitions[1].mu.Unlock()
}

// What a partition knows of its keys is in their entries, and goes with them.
func TestNothingOfAKeyOutlivesIt(t *testing.T) {
	t.Parallel()
	s := newParts(t, 2, time.Hour)
	var left []weak.Pointer[Entry[string]]
	for i := range 100 {
		key := fmt.Sprint(i)
		require.True(t, s.Put(key, "v", s.Tagged(s.Ticket(i%2, key), []string{"red"}), time.Hour))
		left = append(left, weak.Make(s.Get(key)))
		s.Evict(key)
	}
	s.items.Wait()
	require.Eventually(t, func() bool {
		runtime.GC()
		return !slices.ContainsFunc(left, func(p weak.Pointer[Entry[string]]) bool { return p.Value() != nil })
	}, 10*time.Second, time.Millisecond)
}

// Entries of a session that is over hold it, so it must hold none of the sessions before it.
func TestASessionThatIsOverIsForgotten(t *testing.T) {
	t.Parallel()
	s := newParts(t, 2, time.Hour)
	first := weak.Make(s.partitions[1].current.Load())
	s.Flush(1)
	require.True(t, s.Put("k", "v", s.Ticket(1, "k"), time.Hour))
	s.Flush(1)
	require.Eventually(t, func() bool { runtime.GC(); return first.Value() == nil }, 10*time.Second, time.Millisecond)
}

// Close ends what tickets of every partition are good for.
func TestCloseEndsAllPartitions(t *testing.T) {
	t.Parallel()
	s := newParts(t, 3, time.Hour)
	var tickets []Ticket
	for p := range 3 {
		tickets = append(tickets, s.Ticket(p, keyIn(p)))
	}
	s.Close()
	for _, ticket := range tickets {
		require.False(t, s.Live(ticket))
	}
}

func TestPartitionsOfAStore(t *testing.T) {
	t.Parallel()
	for _, n := range []int{-1, maxPartitions + 1} {
		_, err := New(Options[string]{Bytes: MinBytes, MaxStaleness: time.Second, Partitions: n})
		require.ErrorIs(t, err, ErrInvalidOptions)
		require.ErrorContains(t, err, fmt.Sprintf("Partitions is %d, must be 1 to 1024", n))
	}
	one, most := newParts(t, 0, time.Hour), newParts(t, maxPartitions, time.Hour)
	one.Begin(0)
	require.Panics(t, func() { one.Begin(1) })
	require.Panics(t, func() { one.Ticket(-1, "k") })
	most.Begin(maxPartitions - 1)
	each := int64(unsafe.Sizeof(partition{}) + unsafe.Sizeof(session{}))
	require.Equal(t, (maxPartitions-1)*each, most.Usage().Bytes-one.Usage().Bytes, "they are within the budget")
	require.Less(t, maxPartitions*each, int64(MinBytes/10))
}
