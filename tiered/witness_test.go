package tiered

import (
	"context"
	"sync"
	"testing"
)

// witness is an Observer that remembers, and does what a test tells it to.
type witness struct {
	NopObserver
	mu            sync.Mutex
	started       []LoadStart
	ended         []LoadEnd
	endedValues   []any // of the contexts
	calls         []RemoteCall
	begun         []InvalidationStart
	invalidations []Invalidation
	sessions      []Session
	divergences   []Divergence

	carry  string
	inLoad func()
	always func() // in every method that is called through the queue, and in Invalidating
}

type witnessKey struct{}

func (w *witness) act() {
	if w.always != nil {
		w.always()
	}
}

func (w *witness) LoadStarted(ctx context.Context, e LoadStart) context.Context {
	w.note(func() { w.started = append(w.started, e) })
	if w.inLoad != nil {
		w.inLoad()
	}
	return context.WithValue(ctx, witnessKey{}, "span of "+e.Key)
}

func (w *witness) LoadEnded(ctx context.Context, e LoadEnd) {
	w.note(func() {
		w.ended = append(w.ended, e)
		w.endedValues = append(w.endedValues, ctx.Value(witnessKey{}))
	})
	if w.inLoad != nil {
		w.inLoad()
	}
}

func (w *witness) RemoteCalled(_ context.Context, e RemoteCall) {
	w.note(func() { w.calls = append(w.calls, e) })
	w.act()
}

func (w *witness) Invalidating(_ context.Context, e InvalidationStart) string {
	w.note(func() { w.begun = append(w.begun, e) })
	w.act()
	return w.carry
}

func (w *witness) InvalidationReceived(e Invalidation) {
	w.note(func() { w.invalidations = append(w.invalidations, e) })
	w.act()
}

func (w *witness) SessionChanged(e Session) {
	w.note(func() { w.sessions = append(w.sessions, e) })
	w.act()
}

func (w *witness) Diverged(e Divergence) {
	w.note(func() { w.divergences = append(w.divergences, e) })
	w.act()
}

func (w *witness) note(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *witness) has(t testing.TB, what string, ok func() bool) {
	t.Helper()
	eventually(t, what, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return ok()
	})
}

func (w *witness) ops() (ops []string) {
	for _, c := range w.calls {
		ops = append(ops, c.Op)
	}
	return ops
}

func observedBy(w Observer) func(*Options[int]) { return func(o *Options[int]) { o.Observer = w } }
