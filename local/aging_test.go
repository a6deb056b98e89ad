package local

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
)

// inBubble gives test a store in fake time.
func inBubble(t *testing.T, test func(t *testing.T, s *Store[string])) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Options[string]{Bytes: 4 << 20, MaxStaleness: time.Hour})
		require.NoError(t, err)
		defer s.Close()
		s.Begin(0)
		s.Prove(0, mono.Now())
		test(t, s)
	})
}

func due(s *Store[string]) (found, due bool) {
	e, due := s.Lookup("k")
	return e != nil, due
}

func TestLookupTellsOneReaderThatAnEntryIsDue(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, s *Store[string]) {
		require.True(t, s.PutAging("k", "v", false, s.Ticket(0, "k"), 10*time.Minute, time.Minute))
		told := func() bool {
			found, due := due(s)
			require.True(t, found)
			return due
		}
		require.False(t, told())
		time.Sleep(time.Minute - 1)
		require.False(t, told())
		time.Sleep(1)
		require.Equal(t, "v", value(s.Get("k")), "a Get neither tells nor takes it from who is told")
		var n atomic.Int64
		var readers sync.WaitGroup
		for range 16 {
			readers.Go(func() {
				for range 100 {
					if _, due := due(s); due {
						n.Add(1)
					}
				}
			})
		}
		readers.Wait()
		require.EqualValues(t, 1, n.Load())
		time.Sleep(RefreshPause - 1)
		require.False(t, told())
		time.Sleep(1)
		require.True(t, told(), "another one, if nothing has come of the first")
		require.False(t, told())
		s.Evict("k")
		time.Sleep(RefreshPause)
		found, is := due(s)
		require.False(t, found)
		require.False(t, is, "what is void is not refreshed")
	})
}

func TestLookupOfWhatIsNeverDue(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, s *Store[string]) {
		for _, put := range []func() bool{
			func() bool { return s.Put("k", "v", s.Ticket(0, "k"), 20*time.Minute) },
			func() bool { return s.PutAbsent("k", s.Ticket(0, "k"), 20*time.Minute) },
			func() bool { return s.PutAging("k", "v", false, s.Ticket(0, "k"), 20*time.Minute, 0) },
			func() bool { return s.PutAging("k", "v", true, s.Ticket(0, "k"), 20*time.Minute, 1<<63-1) },
		} {
			require.True(t, put())
			time.Sleep(10 * time.Minute)
			found, is := due(s)
			require.True(t, found)
			require.False(t, is)
		}
	})
}

// An expired entry is given out under the rule of a hit, but for the expiry.
func TestExpired(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(s *Store[string])
		want   string
	}{
		"nothing":       {func(*Store[string]) {}, "v"},
		"evicted":       {func(s *Store[string]) { s.Evict("k") }, ""},
		"flushed":       {func(s *Store[string]) { s.Flush(0) }, ""},
		"session ended": {func(s *Store[string]) { s.End(0) }, ""},
		"new session":   {func(s *Store[string]) { s.Begin(0); s.Prove(0, mono.Now()) }, ""},
		"no proof":      {func(*Store[string]) { time.Sleep(2 * time.Hour) }, ""},
		"proven again":  {func(s *Store[string]) { time.Sleep(2 * time.Hour); s.Prove(0, mono.Now()) }, "v"},
		"replaced":      {func(s *Store[string]) { s.Put("k", "w", s.Ticket(0, "k"), time.Hour) }, ""},
		"absent":        {func(s *Store[string]) { s.PutAbsent("k", s.Ticket(0, "k"), 1); time.Sleep(time.Second) }, ""},
		"closed":        {func(s *Store[string]) { s.Close() }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, s *Store[string]) {
				require.True(t, s.Put("k", "v", s.Ticket(0, "k"), time.Minute))
				require.Nil(t, s.Expired("k", 4*time.Hour), "it has not")
				time.Sleep(time.Minute)
				require.Nil(t, s.Get("k"))
				c.change(s)
				require.Equal(t, c.want, value(s.Expired("k", 4*time.Hour)))
				require.Nil(t, s.Expired("other", 4*time.Hour))
			})
		})
	}
}

// The key is evicted between the reading of the proof and the judgement of the entry.
func TestExpiredReadsTheStateLast(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, s *Store[string]) {
		require.True(t, s.Put("k", "v", s.Ticket(0, "k"), time.Minute))
		time.Sleep(time.Minute)
		e := s.Expired("k", time.Hour)
		require.NotNil(t, e)
		require.True(t, s.Stands(e))
		now := s.now
		s.now = func() int64 { s.Evict("k"); return now() }
		require.False(t, s.Stands(e))
		require.Nil(t, s.Expired("k", time.Hour))
	})
}

func TestExpiredFor(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, s *Store[string]) {
		require.True(t, s.Put("k", "v", s.Ticket(0, "k"), time.Minute))
		time.Sleep(2 * time.Minute)
		require.NotNil(t, s.Expired("k", time.Minute))
		require.Nil(t, s.Expired("k", time.Minute-1))
	})
}
