package tiered

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/pubsub"
)

// What cannot be carried is left out, and the invalidation goes its way.
func TestObserverThatCarriesTooMuch(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	from, to := &witness{carry: strings.Repeat("x", pubsub.MaxCarried+1)}, &witness{}
	a := instance(t, r, s, observedBy(from))
	instance(t, r, s, observedBy(to))
	require.NoError(t, a.Invalidate(soon(t), "k"))
	to.has(t, "the invalidation", func() bool { return len(to.invalidations) == 1 })
	require.Empty(t, to.invalidations[0].Carried)
}

// An Observer that panics costs nobody anything.
func TestObserverThatPanics(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	w := &witness{inLoad: func() { panic("in a load") }, always: func() { panic("elsewhere") }}
	f := []*Cache[int]{instance(t, r, s, observedBy(w)), instance(t, r, s, observedBy(w))}
	for range 3 {
		v := s.write("k")
		require.NoError(t, f[0].Invalidate(soon(t), "k"))
		require.Equal(t, v, get(t, f[0], "k"))
		eventually(t, "the other one sees it", func() bool { return get(t, f[1], "k") == v })
	}
	w.has(t, "all were called", func() bool {
		return len(w.started) > 0 && len(w.ended) > 0 && len(w.calls) > 3 && len(w.invalidations) >= 6
	})
	for _, c := range f {
		require.NoError(t, c.Close())
		require.Zero(t, c.Stats().Unobserved)
	}
}

// One that ends the goroutine it is called on ends nothing else.
func TestObserverThatExits(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	w := &witness{always: runtime.Goexit}
	c := instance(t, r, s, func(o *Options[int]) { o.Observer = sparing{w} })
	require.NoError(t, c.Invalidate(soon(t), "k"))
	require.Equal(t, 0, get(t, c, "k"))
	w.has(t, "all were called", func() bool { return len(w.invalidations) == 1 && len(w.calls) == 4 })
	require.NoError(t, c.Close())
}

// sparing does not end the goroutine of who calls Invalidate.
type sparing struct{ *witness }

func (sparing) Invalidating(context.Context, InvalidationStart) string { return "" }

// One that blocks where it has a goroutine of its own holds up nothing; what it misses is counted.
func TestObserverThatBlocks(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	release := make(chan struct{})
	w := &witness{always: func() { <-release }}
	c := instance(t, r, s, func(o *Options[int]) { o.Observer, o.CloseTimeout = sparing{w}, 10*time.Millisecond })
	for i := range maxEvents {
		require.NoError(t, c.Invalidate(soon(t), keyName(i%10)))
	}
	require.Equal(t, 0, get(t, c, "k"))
	eventually(t, "events are dropped", func() bool { return c.Stats().Unobserved > 0 })
	require.Equal(t, maxEvents, c.Health().EventsWaiting)
	require.NoError(t, c.Close(), "which does not wait for it for long")
	close(release)
	<-c.watch.done
}

// One that blocks in a load is as a loader that does not return.
func TestObserverThatBlocksALoad(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	release := make(chan struct{})
	w := &witness{inLoad: func() { <-release }}
	c := instance(t, r, s, observedBy(w), func(o *Options[int]) { o.LoadTimeout = 50 * time.Millisecond })
	_, err := c.Get(soon(t), "k")
	require.ErrorIs(t, err, ErrLoadTimeout)
	close(release)
	w.has(t, "the end", func() bool { return len(w.ended) == 1 })
}
