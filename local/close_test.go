package local

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The three steps of Store.writes, one after the other.
func TestWhoWaitsForCloseHoldsUpNoPut(t *testing.T) {
	for name, change := range map[string]func(*Store[string]){
		"an eviction": func(s *Store[string]) { s.Evict("k") },
		"another put": func(s *Store[string]) { s.Put("k", "v", s.Ticket(0, "k"), time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, time.Hour)
			s.writes.RLock() // a Put has come so far
			closed, changed := make(chan struct{}), make(chan struct{})
			go func() { defer close(closed); s.Close() }()
			require.Eventually(t, func() bool { return !couldRead(s) }, 10*time.Second, time.Millisecond, "Close never asked")
			go func() { defer close(changed); change(s) }()
			require.Eventually(t, waitsToRead, 10*time.Second, time.Millisecond, "it does not wait for Close")

			mu := &s.changes[s.hash("k")%uint64(len(s.changes))]
			if free := mu.TryLock(); free {
				mu.Unlock()
			} else {
				t.Error("the Put cannot go on")
			}
			s.writes.RUnlock()
			<-closed
			<-changed
		})
	}
}

func couldRead(s *Store[string]) bool {
	free := s.writes.TryRLock()
	if free {
		s.writes.RUnlock()
	}
	return free
}

// waitsToRead reports whether a goroutine stands before a read lock of a store.
func waitsToRead() bool {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for g := range strings.SplitSeq(string(stacks), "\n\n") {
		if strings.Contains(g, "[sync.RWMutex.RLock") && strings.Contains(g, "local.(*Store[") {
			return true
		}
	}
	return false
}
