package local

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dgraph-io/ristretto/v2"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tandemcache/tandem/internal/mono"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newStore(t testing.TB, bound time.Duration) *Store[string] {
	t.Helper()
	s, err := New(Options[string]{Bytes: 4 << 20, MaxStaleness: bound})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	s.Begin(0)
	s.Prove(0, mono.Now())
	return s
}

func value(e *Entry[string]) string {
	if e == nil {
		return ""
	}
	return e.Value
}

// entryOf returns an entry of the key "k" that would be served, and is in neither the slot nor Ristretto.
func entryOf(s *Store[string], v string, t Ticket) *Entry[string] {
	e := &Entry[string]{hash: s.hash("k"), key: "k", ticket: t.stamp, expires: math.MaxInt64, Value: v}
	e.state.Store(live)
	return e
}

func TestPutIsVisibleAtOnce(t *testing.T) {
	t.Parallel()
	s := newStore(t, time.Hour)
	for i := range 10_000 {
		key := fmt.Sprint(i)
		require.True(t, s.Put(key, key, s.Ticket(0, key), time.Hour))
		require.Equal(t, key, value(s.Get(key)))
	}
	u := s.Usage()
	require.Equal(t, uint64(10_000), u.Hits)
	require.Zero(t, u.Misses)
	require.Positive(t, u.Bytes)
	require.LessOrEqual(t, u.Bytes, u.Limit)
}

func TestAbsentIsAnAnswer(t *testing.T) {
	t.Parallel()
	s := newStore(t, time.Hour)
	require.True(t, s.PutAbsent("k", s.Ticket(0, "k"), time.Hour))
	e := s.Get("k")
	require.NotNil(t, e)
	require.True(t, e.Absent)
}

// Ristretto keeps the older of two Sets of a new key that are in its buffer together. The ticket of the older one is void
// then, so it must not be served, whichever survives.
func TestEvictedBetweenTwoBufferedSets(t *testing.T) {
	t.Parallel()
	s := newStore(t, time.Hour)
	ticket := s.Ticket(0, "k")
	e := entryOf(s, "old", ticket)
	e.state.Store(pending)
	require.True(t, s.items.Set(e.hash, e, 1)) // as put does, without its check and its wait
	s.Evict("k")
	s.Put("k", "new", s.Ticket(0, "k"), time.Hour)
	s.items.Wait()
	s.enliven(e, ticket.version)
	require.NotEqual(t, "old", value(s.Get("k")))
}

// An entry is in Ristretto before it is known whether its key was evicted meanwhile.
func TestNobodyIsServedAnEntryBeforeItsTicketIsComparedAgain(t *testing.T) {
	t.Parallel()
	for _, evicted := range []string{"not", "before", "after"} {
		s := newStore(t, time.Hour)
		ticket := s.Ticket(0, "k")
		e := entryOf(s, "v", ticket)
		e.state.Store(pending)
		if evicted == "before" {
			s.Evict("k")
		}
		require.True(t, s.items.Set(e.hash, e, 1))
		s.items.Wait()
		require.Nil(t, s.Get("k"), "pending")
		if evicted == "after" {
			s.Evict("k")
		}
		s.enliven(e, ticket.version)
		if evicted == "not" {
			require.Same(t, e, s.Get("k"))
		} else {
			require.Nil(t, s.Get("k"), evicted)
			s.items.Wait()
			_, held := s.items.GetTTL(e.hash)
			require.False(t, held, "its memory is given back")
		}
	}
}

func TestATicketFromBeforeAnEvictionStoresNothing(t *testing.T) {
	t.Parallel()
	for name, void := range map[string]func(*Store[string]){
		"evict": func(s *Store[string]) { s.Evict("k") },
		"flush": func(s *Store[string]) { s.Flush(0) },
		"begin": func(s *Store[string]) { s.Begin(0) },
		"end":   func(s *Store[string]) { s.End(0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t, time.Hour)
			ticket := s.Ticket(0, "k")
			void(s)
			require.False(t, s.Put("k", "old", ticket, time.Hour))
			require.Nil(t, s.Get("k"))

			require.True(t, s.Put("k", "new", s.Ticket(0, "k"), time.Hour))
			require.Equal(t, "new", value(s.Get("k")))
			void(s)
			require.Nil(t, s.Get("k"))
		})
	}
	s := newStore(t, time.Hour)
	require.False(t, s.Put("k", "v", Ticket{}, time.Hour), "the zero Ticket is never good")
}

// What put's own check cannot see is an eviction between that check and Ristretto's map.
func TestAnEvictionDuringPutIsSeenByTheHit(t *testing.T) {
	t.Parallel()
	s := newStore(t, time.Hour)
	ticket := s.Ticket(0, "k")
	s.cost.user = func(string) int64 { s.Evict("k"); return 1 } // runs between the two
	s.Put("k", "old", ticket, time.Hour)
	require.Nil(t, s.Get("k"))
}

func TestTheAgeRule(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, 2*time.Second)
		defer s.Close()
		require.True(t, s.Put("k", "v", s.Ticket(0, "k"), time.Hour))

		time.Sleep(2 * time.Second)
		require.Equal(t, "v", value(s.Get("k")), "at the bound")
		time.Sleep(time.Nanosecond)
		require.Nil(t, s.Get("k"), "past the bound without proof")

		s.Prove(0, mono.Now()-int64(time.Second))
		require.Equal(t, "v", value(s.Get("k")), "a proof vouches for it again")
		time.Sleep(time.Second)
		require.Equal(t, "v", value(s.Get("k")))
		time.Sleep(time.Nanosecond)
		require.Nil(t, s.Get("k"))

		s.Prove(0, mono.Now()-int64(time.Hour))
		require.Nil(t, s.Get("k"), "a late proof of an earlier time changes nothing")
	})
}

func TestWithoutASessionAgeCountsFromTheTicket(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, 2*time.Second)
		defer s.Close()
		s.End(0)
		ticket := s.Ticket(0, "k")
		time.Sleep(1500 * time.Millisecond) // the load
		require.True(t, s.Put("k", "v", ticket, time.Hour))
		time.Sleep(500 * time.Millisecond)
		require.Equal(t, "v", value(s.Get("k")))
		time.Sleep(time.Millisecond)
		require.Nil(t, s.Get("k"), "it was read more than the bound ago, though stored later")
		require.False(t, s.Live(ticket))
		require.False(t, s.Put("k", "v", ticket, time.Hour), "a load slower than the bound")
		require.False(t, s.Live(s.Ticket(0, "k").NotAfter(ticket.At())), "as old as what it rests on")
	})
}

func TestAnUnagedTicket(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, time.Second)
		defer s.Close()
		s.End(0)
		ticket := s.Ticket(0, "k")
		unaged := ticket.Unaged()
		require.True(t, s.Good("k", ticket))
		require.False(t, s.Good("k", unaged), "without a proof")
		require.Equal(t, ticket.At(), unaged.At())
		require.Equal(t, unaged, unaged.Unaged())
		require.Equal(t, unaged, unaged.NotAfter(ticket.At()-1))

		s.Begin(0)
		unaged = s.Ticket(0, "k").Unaged()
		s.Prove(0, mono.Now())
		require.True(t, s.Put("k", "v", unaged, time.Hour))
		require.Equal(t, unaged.At(), s.Get("k").At())
		time.Sleep(time.Second)
		require.Equal(t, "v", value(s.Get("k")))
		time.Sleep(time.Nanosecond)
		require.Nil(t, s.Get("k"))
		s.Prove(0, mono.Now())
		require.Equal(t, "v", value(s.Get("k")))
	})
}

// The proof of a new session says nothing about what was stored in an old one.
func TestAProofDoesNotReachBackAcrossSessions(t *testing.T) {
	t.Parallel()
	s := newStore(t, time.Hour)
	require.True(t, s.Put("k", "v", s.Ticket(0, "k"), time.Hour))
	s.End(0)
	s.Begin(0)
	s.Prove(0, mono.Now())
	require.Nil(t, s.Get("k"))
}

// A reader stops in the middle of a hit; while it is stopped, the connection delivers what piled up: the invalidation of
// this very key, and a heartbeat. See Store.fresh. This fails if the slot's version is compared before the proof is read.
func TestTheOrderOfAHit(t *testing.T) {
	t.Parallel()
	s := newStore(t, time.Second)
	stale := mono.Now() - int64(2*time.Second) // the last proof is over the bound
	s.partitions[0].replace(func(*session) int64 { return stale })
	ticket := s.Ticket(0, "k").NotAfter(stale)
	e := entryOf(s, "old", ticket)
	s.items.Set(s.hash("k"), e, 1)
	s.items.Wait()

	s.now = func() int64 {
		s.Evict("k")
		s.Prove(0, mono.Now())
		return mono.Now()
	}
	require.Nil(t, s.Get("k"))
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, time.Hour)
		defer s.Close()
		require.True(t, s.Put("k", "v", s.Ticket(0, "k"), time.Minute))
		require.False(t, s.Put("never", "v", s.Ticket(0, "never"), 0))
		require.True(t, s.Put("long", "v", s.Ticket(0, "long"), math.MaxInt64))
		time.Sleep(time.Minute - 1)
		require.Equal(t, "v", value(s.Get("k")))
		time.Sleep(1)
		require.Nil(t, s.Get("k"))
		require.Equal(t, "v", value(s.Get("long")))
	})
}

func TestTwoKeysOfOneHashAreMissesToEachOther(t *testing.T) {
	t.Parallel()
	s := newStore(t, time.Hour)
	e := entryOf(s, "of another key", s.Ticket(0, "k"))
	e.key = "other"
	s.items.Set(s.hash("k"), e, 1)
	s.items.Wait()
	require.Nil(t, s.Get("k"))
}

func TestEvictFreesMemory(t *testing.T) {
	t.Parallel()
	s := newStore(t, time.Hour)
	s.Put("k", "v", s.Ticket(0, "k"), time.Hour)
	empty := s.Usage().Bytes
	s.Put("big", string(make([]byte, 1<<20)), s.Ticket(0, "big"), time.Hour)
	require.Greater(t, s.Usage().Bytes, empty+1<<20)
	s.Evict("big")
	s.items.Wait()
	require.InDelta(t, empty, s.Usage().Bytes, 1024)
}

// Readers, loaders and an invalidator at full speed: a hit must never return what an invalidation that had finished before
// the hit began has made old. Ristretto alone fails this tens of thousands of times in two seconds.
func TestNoStaleHitUnderLoad(t *testing.T) {
	t.Parallel()
	s, err := New(Options[int64]{Bytes: 4 << 20, MaxStaleness: time.Hour})
	require.NoError(t, err)
	defer s.Close()
	s.Begin(0)
	const keys = 64
	var source, finished [keys]atomic.Int64
	var stale atomic.Int64
	var hits atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				k := i % keys
				key := fmt.Sprint(k)
				least := finished[k].Load()
				if e := s.Get(key); e != nil {
					hits.Add(1)
					if e.Value < least {
						stale.Add(1)
					}
					continue
				}
				ticket := s.Ticket(0, key)
				s.Put(key, source[k].Load(), ticket, time.Hour)
			}
		})
	}
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			k := i % keys
			version := source[k].Add(1)
			s.Evict(fmt.Sprint(k))
			finished[k].Store(version)
		}
	})
	time.Sleep(300 * time.Millisecond) // the length of the run, not a wait for something
	for began := time.Now(); hits.Load() == 0 && time.Since(began) < 10*time.Second; {
		time.Sleep(time.Millisecond) // and on a busy machine longer, until there is something to be seen
	}
	close(stop)
	wg.Wait()
	require.Zero(t, stale.Load(), "of %d hits", hits.Load())
	require.Positive(t, hits.Load())
}

// Ristretto's own Close panics or races beside Get and Set; the race detector watches here.
func TestCloseUnderLoad(t *testing.T) {
	t.Parallel()
	for range 50 {
		s, err := New(Options[string]{Bytes: 4 << 20, MaxStaleness: time.Hour})
		require.NoError(t, err)
		s.Begin(0)
		var wg sync.WaitGroup
		start := make(chan struct{})
		for g := range 8 {
			wg.Go(func() {
				<-start
				for i := range 300 {
					key := fmt.Sprint(g, i%50)
					s.Put(key, "v", s.Ticket(0, key), time.Hour)
					s.Get(key)
					if i%7 == 0 {
						s.Evict(key)
					}
				}
			})
		}
		wg.Go(func() { <-start; s.Close() })
		wg.Go(func() { <-start; s.Close() })
		close(start)
		wg.Wait()
		require.Nil(t, s.Get("k"))
		require.False(t, s.Put("k", "v", s.Ticket(0, "k"), time.Hour))
		s.Evict("k")
		s.Flush(0)
		require.Zero(t, s.Usage().Bytes)
	}
}

func TestOptionErrors(t *testing.T) {
	t.Parallel()
	_, err := New(Options[string]{Bytes: MinBytes - 1, MaxStaleness: time.Second})
	require.ErrorIs(t, err, ErrInvalidOptions)
	require.ErrorContains(t, err, "Bytes is 1048575, must be at least 1048576")
	_, err = New(Options[string]{Bytes: MinBytes})
	require.ErrorIs(t, err, ErrInvalidOptions)
	require.ErrorContains(t, err, "MaxStaleness is 0s")
}

func TestAHitDoesNotAllocate(t *testing.T) {
	s := newStore(t, time.Hour)
	s.Put("key", "v", s.Ticket(0, "key"), time.Hour)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if s.Get("key") == nil {
			t.Fatal("miss")
		}
	}))
}

// The facts that this package is built around; if a release of Ristretto changes them, a test here says so and comments go.
func TestWhatRistrettoDoes(t *testing.T) {
	t.Parallel()
	c, err := ristretto.NewCache(&ristretto.Config[uint64, int]{NumCounters: 1000, MaxCost: 1000, BufferItems: 64, IgnoreInternalCost: true})
	require.NoError(t, err)
	defer c.Close()
	older := 0
	for i := range uint64(100) {
		c.Set(i, 1, 1)
		c.Set(i, 2, 1)
		c.Wait()
		if v, _ := c.Get(i); v == 1 {
			older++
		}
	}
	require.Positive(t, older, "of two buffered Sets of a new key the older one wins")
}
