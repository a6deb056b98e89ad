package tieredtest

import (
	"context"
	"errors"
	"time"

	"github.com/tandemcache/tandem/tiered"
)

// Settle waits until every live instance is connected, trusts L1 and Redis, has nothing pending, and has heard all that was
// published before. Live is what the test has not closed, and is neither cut off by Partition nor deaf by DropMessages. It
// fails the test if that takes more than half a minute, and at once while Redis is down.
//
// If no fault has to be got over, it takes no time in a bubble.
func (f *Fleet[V]) Settle() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	for n, i := range f.instances {
		if err := f.settle(ctx, i); err != nil {
			f.t.Fatalf("tieredtest: instance %d does not settle: %v; its health is %+v", n, err, i.cache.Health())
		}
	}
}

var errDown = errors.New("the test has Redis down; call RedisUp before Settle")

func (f *Fleet[V]) settle(ctx context.Context, i *instance[V]) error {
	for {
		faulty, down := i.link.faulty()
		switch {
		case faulty:
			return nil
		case down:
			return errDown
		}
		if err := i.cache.Ready(ctx); errors.Is(err, tiered.ErrClosed) {
			return nil
		} else if err != nil {
			return err
		}
		if i.sound() && f.heard(ctx, i.link) && i.sound() {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		time.Sleep(time.Millisecond)
	}
}

func (l *link) faulty() (faulty, down bool) {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	return l.cut || l.deaf, l.net.down
}

// sound reports whether the instance is whole. A proof that is older than the loss of a subscription is of that one: the
// instance may not have noticed yet.
func (i *instance[V]) sound() bool {
	now := time.Now() // before it is asked how old the proof is: rather too old than too young
	h := i.cache.Health()
	proof := now.Add(-h.ProofAge)
	return h.LocalTrusted && h.RemoteTrusted && !h.BreakerOpen && h.PendingKeys == 0 && !h.PendingAll &&
		proof.After(i.link.lost())
}

// lost returns when a subscription last ended or became deaf.
func (l *link) lost() time.Time {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	return l.broken
}

// heard waits until whoever subscribes over the link has done with what was published before the call.
func (f *Fleet[V]) heard(ctx context.Context, l *link) bool {
	// What miniredis has published is on its way to the subscriber's connection by way of a goroutine, which takes this
	// when it has done with what came before. It goes to channels on which nobody minds it.
	for _, inbox := range f.net.redis.PubSubChannels("tandem:inst:*") {
		f.net.redis.Publish(inbox, "")
	}
	for w, written := range l.subscriptions() {
		for !w.used(written) {
			l.net.mu.Lock()
			passed := l.net.passed
			l.net.mu.Unlock()
			if w.used(written) {
				break
			}
			if wait(passed, ctx.Done(), time.Time{}); ctx.Err() != nil {
				return false
			}
		}
	}
	return true
}

func (l *link) subscriptions() map[*wire]int64 {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	written := make(map[*wire]int64)
	for w := range l.wires {
		if w.subscribed {
			written[w] = w.down.written
		}
	}
	return written
}

// used reports whether the client has done with the first bytes, or never will.
func (w *wire) used(bytes int64) bool {
	w.link.net.mu.Lock()
	defer w.link.net.mu.Unlock()
	return w.down.used >= bytes || w.client.closed || w.down.ended != nil || w.down.lost
}
