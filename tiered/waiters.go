package tiered

import (
	"sync"
	"sync/atomic"
)

// waiters are the flights that wait for another instance's lease, by key.
type waiters struct {
	// some is how many there are: mostly none, and every message asks. Who waits is counted before it asks for the lease.
	some atomic.Int64

	mu    sync.Mutex // protects by
	byKey map[string][]hearer
}

// hearer is told what happens to the keys that it waits for. It must not block.
type hearer interface{ hear(key string, n news) }

// word is the hearer of one flight: a channel with room for one word.
type word chan news

func (w word) hear(_ string, n news) {
	select {
	case w <- n:
	default: // it has not heard the last one yet, and will look for itself
	}
}

// news is what a waiting flight is told.
type news int

const (
	changed  news = iota // the entry was invalidated, and the lease with it
	newValue             // the holder has filled the entry
	gaveUp               // the holder's load has failed
)

func (w *waiters) add(key string) (word, func()) {
	ch := make(word, 1)
	w.listen(key, ch)
	return ch, func() { w.remove(key, ch) }
}

func (w *waiters) listen(key string, h hearer) {
	w.some.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byKey == nil {
		w.byKey = make(map[string][]hearer)
	}
	w.byKey[key] = append(w.byKey[key], h)
}

func (w *waiters) remove(key string, h hearer) {
	w.some.Add(-1)
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.byKey[key]
	for i, other := range all {
		if other == h {
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
	for _, h := range w.byKey[key] {
		h.hear(key, n)
	}
}
