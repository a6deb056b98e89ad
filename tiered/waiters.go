package tiered

import (
	"sync"
	"sync/atomic"
)

// waiters are the flights that wait for another instance's lease, by key. Each has a channel of its own with room for one
// word, so that telling them never blocks.
type waiters struct {
	// some is how many there are: mostly none, and every message asks. Who waits is counted before it asks for the lease.
	some atomic.Int64

	mu    sync.Mutex // protects by
	byKey map[string][]chan news
}

// news is what a waiting flight is told.
type news int

const (
	changed  news = iota // the entry was invalidated, and the lease with it
	newValue             // the holder has filled the entry
	gaveUp               // the holder's load has failed
)

func (w *waiters) add(key string) (chan news, func()) {
	ch := make(chan news, 1)
	w.some.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byKey == nil {
		w.byKey = make(map[string][]chan news)
	}
	w.byKey[key] = append(w.byKey[key], ch)
	return ch, func() { w.remove(key, ch) }
}

func (w *waiters) remove(key string, ch chan news) {
	w.some.Add(-1)
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.byKey[key]
	for i, other := range all {
		if other == ch {
			all = append(all[:i:i], all[i+1:]...)
			break
		}
	}
	if len(all) == 0 {
		delete(w.byKey, key)
		return
	}
	w.byKey[key] = all
}

func (w *waiters) tell(key string, n news) {
	if w.some.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ch := range w.byKey[key] {
		select {
		case ch <- n:
		default: // it has not heard the last one yet, and will look for itself
		}
	}
}
