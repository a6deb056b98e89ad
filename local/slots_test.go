package local

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/ristretto/v2"
	"github.com/stretchr/testify/require"
)

// requireSlots requires of a store that nothing is done to, that its slots show only what Ristretto holds.
func requireSlots[V any](t *testing.T, s *Store[V]) (shown int) {
	t.Helper()
	s.items.Wait()
	for i := range s.slots.all {
		e := s.slots.all[i].entry.Load()
		if e == nil {
			continue
		}
		shown++
		held, _ := s.items.Get(e.hash)
		require.Same(t, held, e, "%q", e.key)
		require.Equal(t, live, e.state.Load())
	}
	return shown
}

func TestASlotShowsWhatIsPutAndWhatIsFound(t *testing.T) {
	t.Parallel()
	s := newStore(t, time.Hour)
	slot := s.slots.of(s.hash("k"))
	s.Put("k", "v", s.Ticket(0, "k"), time.Hour)
	e := slot.entry.Load()
	require.Same(t, e, s.Get("k"))
	slot.entry.Store(nil)
	require.Same(t, e, s.Get("k"), "Ristretto has it")
	require.Same(t, e, slot.entry.Load())
	s.Evict("k")
	require.Nil(t, slot.entry.Load())
}

// A reader has got an entry from Ristretto and stops; the key's next entry is put; the reader goes on.
func TestASlotDoesNotGoBackToAnEarlierEntry(t *testing.T) {
	t.Parallel()
	s := newStore(t, time.Hour)
	slot := s.slots.of(s.hash("k"))
	s.Put("k", "old", s.Ticket(0, "k"), time.Hour)
	old := slot.entry.Load()
	s.Put("k", "new", s.Ticket(0, "k"), time.Hour)
	require.Equal(t, gone, old.state.Load())
	s.show(slot, old)
	require.Equal(t, "new", value(s.Get("k")))
	slot.entry.Store(old) // as show does between its two looks
	require.Equal(t, "new", value(s.Get("k")))
}

func TestASlotForgetsWhatRistrettoHasNoRoomFor(t *testing.T) {
	t.Parallel()
	s, err := New(Options[[]byte]{Bytes: MinBytes, MaxStaleness: time.Hour})
	require.NoError(t, err)
	defer s.Close()
	s.Begin(0)
	for i := range 5000 {
		key := fmt.Sprint("k", i)
		s.Put(key, make([]byte, 1000), s.Ticket(0, key), time.Hour)
		s.Get(fmt.Sprint("k", i/2))
	}
	require.Positive(t, requireSlots(t, s))
	s.Close()
	for i := range s.slots.all {
		require.Nil(t, s.slots.all[i].entry.Load())
	}
}

func TestASlotIsSharedInTurn(t *testing.T) {
	t.Parallel()
	s := newStore(t, time.Hour)
	slot := s.slots.of(s.hash("0"))
	other := ""
	for i := 1; other == ""; i++ {
		if key := fmt.Sprint(i); s.slots.of(s.hash(key)) == slot {
			other = key
		}
	}
	for _, key := range []string{"0", other} {
		s.Put(key, key, s.Ticket(0, key), time.Hour)
	}
	for range 3 {
		require.Equal(t, "0", value(s.Get("0")))
		require.Equal(t, other, value(s.Get(other)))
	}
	s.Evict("0") // which the slot does not show now
	require.Nil(t, s.Get("0"))
	require.Equal(t, other, value(s.Get(other)))
}

// An eviction is of its key: a storm of them leaves the entries of other keys where they are.
func TestOtherKeysOutliveAStormOfEvictions(t *testing.T) {
	t.Parallel()
	s := newStore(t, time.Hour)
	for i := range 1000 {
		key := fmt.Sprint("stays", i)
		s.Put(key, key, s.Ticket(0, key), time.Hour)
	}
	for i := range 20 * len(s.slots.all) {
		s.Evict(fmt.Sprint("goes", i))
	}
	for i := range 1000 {
		key := fmt.Sprint("stays", i)
		require.Equal(t, key, value(s.Get(key)))
	}
}

// Evict finds what it has to drop in Ristretto: whatever that gives up, by whatever way, it must say so, or a reader who has
// it already would bring it back into its slot.
func TestRistrettoSaysWhatItGivesUp(t *testing.T) {
	t.Parallel()
	s, err := New(Options[int]{Bytes: MinBytes, MaxStaleness: time.Hour, Cost: func(int) int64 { return 4096 }}) // not all have room
	require.NoError(t, err)
	defer s.Close()
	s.Begin(0)
	const writers, each = 4, 5000
	all := make([][]*Entry[int], writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				key := fmt.Sprint(rand.IntN(300))
				e := &Entry[int]{Value: i}
				if s.put(key, e, s.Ticket(0, key), time.Hour) {
					all[w] = append(all[w], e)
				}
				if i%3 == 0 {
					s.Evict(fmt.Sprint(rand.IntN(300)))
				}
			}
		})
	}
	wg.Wait()
	s.items.Wait()
	kept := 0
	for _, entries := range all {
		for _, e := range entries {
			held, _ := s.items.Get(e.hash)
			if held == e {
				kept++
			} else {
				require.Equal(t, gone, e.state.Load())
			}
		}
	}
	require.Positive(t, kept)
}

// Writers replace entries and others evict them while readers bring them into their slots: at the end no slot may show, and
// by that hold in memory, an entry that Ristretto has given up.
func TestASlotUnderLoad(t *testing.T) {
	t.Parallel()
	s, err := New(Options[int64]{Bytes: MinBytes, MaxStaleness: time.Hour})
	require.NoError(t, err)
	defer s.Close()
	s.Begin(0)
	const keys = 32
	var wg sync.WaitGroup
	var went [keys]atomic.Int64
	for g := range 6 {
		wg.Go(func() {
			for i := range 20_000 {
				k := rand.IntN(keys)
				key := fmt.Sprint(k)
				switch {
				case g == 0 && i%2 == 0:
					s.Put(key, went[k].Add(1), s.Ticket(0, key), time.Hour)
				case g == 1 && i%8 == 0:
					s.Evict(key)
				case g == 2:
					s.slots.of(s.hash(key)).entry.Store(nil)
				default:
					s.Get(key)
				}
			}
		})
	}
	wg.Wait()
	requireSlots(t, s)
}

func TestUses(t *testing.T) {
	t.Parallel()
	u := uses{length: 4 * heardBatch}
	var told atomic.Uint32
	count := func() (n int) {
		for range 100 {
			if u.counts(&told) {
				n++
			}
		}
		return n
	}
	require.Equal(t, saturated, count())
	require.Zero(t, count())
	for n := range uint64(4*heardBatch - 1) {
		u.hear(n + 1)
		require.Zero(t, u.period.Load())
	}
	u.hear(4 * heardBatch)
	require.Equal(t, saturated, count(), "another period")
	u.period.Add(10 * periodStep)
	require.Equal(t, saturated, count(), "one that missed some")
	u.period.Store(^uint32(0) - periodStep + 1)
	count()
	u.period.Add(periodStep)
	require.Equal(t, saturated, count(), "the number of periods comes round")
}

func TestRistrettoIsToldOfHits(t *testing.T) {
	t.Parallel()
	s := newStore(t, time.Hour)
	told := func() (n uint64) {
		for i := range s.door.passes {
			n += s.door.passes[i].in.Load()
		}
		return n
	}
	s.Put("k", "v", s.Ticket(0, "k"), time.Hour)
	before := told()
	for range 2 * saturated {
		require.NotNil(t, s.Get("k"))
	}
	require.EqualValues(t, saturated, told()-before)
	require.Nil(t, s.Get("a miss"))
	require.EqualValues(t, saturated+1, told()-before, "and of misses")
}

// What Ristretto is not told of must not cost hits: against the same Ristretto that is asked at every read. On a busy machine
// both lose what their policies have no time to hear, not always as much of it, so that one bad turn says nothing.
func TestHitRatio(t *testing.T) {
	t.Parallel()
	const turns, margin = 4, 0.02
	for range turns {
		ours, theirs := hitRatios(t)
		t.Logf("hit ratio %.3f, of bare Ristretto %.3f", ours, theirs)
		if ours > theirs-margin {
			return
		}
	}
	t.Errorf("hit ratio below that of bare Ristretto by more than %v, %d times", margin, turns)
}

// hitRatios reads the same ids through a store and through a bare Ristretto of the same room, in turn.
func hitRatios(t *testing.T) (ours, theirs float64) {
	const ids, reads, size = 20_000, 160_000, 200
	s, err := New(Options[[]byte]{Bytes: MinBytes, MaxStaleness: time.Hour})
	require.NoError(t, err)
	defer s.Close()
	s.Begin(0)
	plan := planFor(MinBytes)
	bare, err := ristretto.NewCache(&ristretto.Config[uint64, []byte]{
		NumCounters: plan.counters, MaxCost: MinBytes - plan.fixed(s.slots.bytes()), BufferItems: 64, IgnoreInternalCost: true,
	})
	require.NoError(t, err)
	defer bare.Close()
	cost := s.cost.of(&Entry[[]byte]{key: "user:12345", Value: make([]byte, size)})

	zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.01, 1, ids-1)
	for i := range uint64(reads) {
		id := (zipf.Uint64() + i/(reads/2)*ids/2) % ids // the popular ones change in the middle
		if i%3 == 0 {
			id = ids + i // read once: only what the policy heard of the others keeps it out
		}
		key := fmt.Sprintf("user:%05d", id)
		if s.Get(key) != nil {
			ours++
		} else {
			s.Put(key, make([]byte, size), s.Ticket(0, key), time.Hour)
		}
		if _, ok := bare.Get(id); ok {
			theirs++
		} else {
			bare.Set(id, nil, cost)
			bare.Wait()
		}
	}
	return ours / reads, theirs / reads
}

// Ristretto, or a Put, has taken the entry out and been stopped before it could tell.
func TestAnEvictionOfWhatRistrettoHasGivenUp(t *testing.T) {
	t.Parallel()
	s := newStore(t, time.Hour)
	require.True(t, s.Put("k", "old", s.Ticket(0, "k"), time.Hour))
	slot := s.slots.of(s.hash("k"))
	e := slot.entry.Load()
	require.NotNil(t, e)
	s.items.Del(s.hash("k"))
	e.state.Store(live) // as it was before Ristretto told
	slot.entry.Store(e)
	require.Equal(t, "old", value(s.Get("k")))
	s.Evict("k")
	require.Nil(t, s.Get("k"))
	require.Nil(t, slot.entry.Load())
}

// A search, a Put and an Eviction of one key wait for each other.
func TestChangesOfOneKeyComeOneAfterTheOther(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Store[string]){
		"a search":    func(s *Store[string]) { s.Get("other") },
		"a put":       func(s *Store[string]) { s.Put("other", "v", s.Ticket(0, "other"), time.Hour) },
		"an eviction": func(s *Store[string]) { s.Evict("other") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t, time.Hour)
			over := s.change(s.hash("other"))
			begun, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				close(begun)
				change(s)
			}()
			<-begun
			select {
			case <-done:
				t.Error("it did not wait")
			case <-time.After(20 * time.Millisecond): // it has nothing else to wait for
			}
			s.items.Wait()
			if _, held := s.items.GetTTL(s.hash("other")); held {
				t.Error("it has come in")
			}
			over()
			<-done
		})
	}
}
