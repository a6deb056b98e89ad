package tiered

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/tandemcache/tandem/internal/quiet"
	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/remote"
)

const (
	maxEvents  = 1024 // that wait for the Observer
	maxJoiners = 64   // contexts of those who wait for one load
)

// watcher brings what happens to the Observer. A nil one does nothing, at the price of asking: each method that is on a path
// of the cache asks that first and is small enough to be inlined.
type watcher struct {
	to     Observer
	cache  string
	logger *quiet.Logger

	events  chan func(Observer)
	dropped atomic.Uint64
	stopped chan struct{}
	done    chan struct{} // closed when the last event has been delivered
}

func newWatcher(to Observer, cache string, logger *quiet.Logger) *watcher {
	if to == nil {
		return nil
	}
	w := &watcher{
		to: to, cache: cache, logger: logger,
		events: make(chan func(Observer), maxEvents), stopped: make(chan struct{}), done: make(chan struct{}),
	}
	go w.deliver()
	return w
}

// later has the Observer told by a goroutine of its own. It never waits, and may be called under any lock.
func (w *watcher) later(event func(Observer)) {
	select {
	case w.events <- event:
	default:
		w.dropped.Add(1)
	}
}

// deliver tells the Observer of one event after the other, and at the end of those that are left.
func (w *watcher) deliver() {
	over := false
	defer func() {
		if !over { // the Observer has called runtime.Goexit
			go w.deliver()
			return
		}
		close(w.done)
	}()
	for {
		select {
		case event := <-w.events:
			w.contain(func() { event(w.to) })
			continue
		default:
		}
		select {
		case event := <-w.events:
			w.contain(func() { event(w.to) })
		case <-w.stopped:
			over = len(w.events) == 0
			if over {
				return
			}
		}
	}
}

// contain calls the Observer.
func (w *watcher) contain(call func()) {
	defer func() {
		if p := recover(); p != nil {
			w.logger.Log(slog.LevelError, "observer", "tandem: Options.Observer panicked",
				"cache", w.cache, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	call()
}

// stop ends the goroutine when it has delivered what there is, and waits for that no longer than patience.
func (w *watcher) stop(patience time.Duration) {
	if w == nil {
		return
	}
	close(w.stopped)
	await(w.done, patience)
}

// unobserved returns how many events were dropped, and waiting how many wait.
func (w *watcher) unobserved() uint64 {
	if w == nil {
		return 0
	}
	return w.dropped.Load()
}

func (w *watcher) waiting() int {
	if w == nil {
		return 0
	}
	return len(w.events)
}

// remote returns what the second tier tells of its calls to, nil if nobody wants to know.
func (w *watcher) remote() remote.ObserveFunc {
	if w == nil {
		return nil
	}
	return func(ctx context.Context, op remote.Op, entries int, took time.Duration, err error) {
		e := RemoteCall{Cache: w.cache, Op: string(op), Entries: entries, Took: took, Ended: time.Now(), Err: err}
		w.later(func(o Observer) { o.RemoteCalled(ctx, e) })
	}
}

func (w *watcher) session(began bool, reason error) {
	if w == nil {
		return
	}
	e := Session{Cache: w.cache, Began: began, Reason: reason, At: time.Now()}
	w.later(func(o Observer) { o.SessionChanged(e) })
}

func (w *watcher) diverged(d Divergence) {
	if w != nil {
		w.later(func(o Observer) { o.Diverged(d) })
	}
}

// received is told of an invalidation that has been applied, with the time of Redis as this instance knows it.
func (w *watcher) received(m pubsub.Message, own string, redisNow int64) {
	if w == nil {
		return
	}
	e := Invalidation{Cache: w.cache, Keys: m.Keys, All: m.Op == pubsub.All, Received: time.Now()}
	if m.Op == pubsub.Tags {
		e.Keys, e.Tags = nil, m.Keys
	}
	w.later(func(o Observer) {
		s := pubsub.ParseSender(m.Sender)
		e.Sender, e.Own, e.Carried = s.ID, s.ID == own, s.Carried
		e.Lag, e.LagKnown = lagOf(s.At, redisNow)
		o.InvalidationReceived(e)
	})
}

// maxLag is the longest lag that is believed: a message is not kept by Redis, and a subscription that is behind by more ends.
const maxLag = time.Hour

// lagOf returns how long something was on its way, from two times of Redis in ms; zero is one that is not known.
func lagOf(sent, received int64) (time.Duration, bool) {
	lag := received - sent
	if sent <= 0 || received <= 0 || lag > int64(maxLag/time.Millisecond) || lag < -int64(maxLag/time.Millisecond) {
		return 0, false
	}
	return time.Duration(max(lag, 0)) * time.Millisecond, true
}

type carriedKey struct{}

// invalidating asks the Observer what goes along with an invalidation, and returns a context that says it to sender.
func (w *watcher) invalidating(ctx context.Context, what InvalidationStart) context.Context {
	if w == nil {
		return ctx
	}
	var carried string
	w.contain(func() {
		what.Cache = w.cache
		carried = w.to.Invalidating(ctx, what)
	})
	if carried == "" {
		return ctx
	}
	if !pubsub.Carriable(carried) {
		w.logger.Log(levelWarn, "carried", "tandem: what Observer.Invalidating returned cannot be carried by a message",
			"cache", w.cache, "text", fmt.Sprintf("%.64q", carried))
		return ctx
	}
	return context.WithValue(ctx, carriedKey{}, carried)
}

// sender is what a message of this instance says of who sends it, when, and with what.
func (c *Cache[V]) sender(ctx context.Context, p *part) string {
	s := pubsub.Sender{ID: c.bus.id()}
	if t, known := p.gate.known(); known {
		s.At = t.about()
	}
	s.Carried, _ = ctx.Value(carriedKey{}).(string)
	return s.String()
}

// redisTime is redisNow where an Observer wants to know.
func (c *Cache[V]) redisTime(p *part) int64 {
	if c.watch == nil {
		return 0
	}
	return c.redisNow(p)
}

// redisNow returns the time of Redis in ms as far as this instance knows it, zero if it does not.
func (c *Cache[V]) redisNow(p *part) int64 {
	if t, known := p.gate.known(); known {
		return t.about()
	}
	return 0
}
