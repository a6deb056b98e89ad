package tiered

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/pubsub"
)

func TestObserverOfALoad(t *testing.T) {
	t.Parallel()
	r, s, w := newRedis(t), newSource(), &witness{}
	var inLoader any
	c := instance(t, r, s, observedBy(w), func(o *Options[int]) {
		o.Load = func(ctx context.Context, key string) (int, error) {
			inLoader = ctx.Value(witnessKey{})
			return s.load(ctx, key)
		}
	})
	s.write("k")
	require.Equal(t, 1, get(t, c, "k"))
	require.Equal(t, "span of k", inLoader, "the loader gets the Observer's context")

	require.Equal(t, []LoadStart{{Cache: "things", Key: "k"}}, w.started)
	require.Len(t, w.ended, 1)
	require.Equal(t, []any{"span of k"}, w.endedValues)
	e := w.ended[0]
	require.Equal(t, "k", e.Key)
	require.NoError(t, e.Err)
	require.Zero(t, e.Waiters)
	require.WithinDuration(t, time.Now(), e.Began, patience)
	w.has(t, "the calls", func() bool { return len(w.calls) == 3 })
	require.Equal(t, []string{"get", "acquire", "fill"}, w.ops())
	for _, call := range w.calls {
		require.NoError(t, call.Err, "that an entry is not there is no error")
		require.Equal(t, 1, call.Entries)
	}
	st := c.Stats()
	require.Positive(t, st.LoadTime)
	require.Positive(t, st.RemoteBytesWritten)
	require.Zero(t, st.RemoteBytesRead)

	other := instance(t, r, s)
	require.Equal(t, 1, get(t, other, "k"))
	require.Equal(t, st.RemoteBytesWritten, other.Stats().RemoteBytesRead)
}

// watchedLoad is a cache with a load of "k" on its way until letGo, for a Get that has ctx.
func watchedLoad(ctx context.Context, t *testing.T) (c *Cache[int], w *witness, first <-chan result, letGo func()) {
	t.Helper()
	s, w := newSource(), &witness{}
	c = instance(t, newRedis(t), s, observedBy(w), func(o *Options[int]) { o.MaxStaleness, o.LoadTimeout = patience, Off }) // nobody is late
	eventually(t, "flights are joined", func() bool { return keeps(c) })
	read, letGo := s.holdNext()
	first = getAsync(ctx, c, "k")
	wait(t, "the load", read)
	return c, w, first, letGo
}

// joined waits until n callers beside the first wait for "k".
func joined(t *testing.T, c *Cache[int], n int) {
	t.Helper()
	f := c.flights.find("k", false)
	require.NotNil(t, f)
	eventually(t, "all wait", func() bool { all, _ := f.joiners.all(); return all == n })
}

// A batch that finds a key's load under way waits for it as a Get does.
func TestObserverHearsOfABatchThatWaits(t *testing.T) {
	t.Parallel()
	ctx := soon(t)
	c, w, first, letGo := watchedLoad(ctx, t)
	batch := async(func() (int, error) {
		got, err := c.GetMany(ctx, []string{"k"})
		return got["k"], err
	})
	joined(t, c, 1)
	letGo()
	wait(t, "the first", first)
	require.Equal(t, result{}, wait(t, "the batch", batch))
	w.mu.Lock()
	defer w.mu.Unlock()
	require.Len(t, w.ended, 1)
	require.Equal(t, 1, w.ended[0].Waiters)
	require.Len(t, w.ended[0].Contexts, 1)
}

func TestObserverHearsOfThoseWhoWait(t *testing.T) {
	t.Parallel()
	type caller struct{}
	c, w, first, letGo := watchedLoad(context.WithValue(soon(t), caller{}, 0), t)
	const more = maxJoiners + 10
	var rest []<-chan result
	for i := range more {
		rest = append(rest, getAsync(context.WithValue(soon(t), caller{}, i+1), c, "k"))
	}
	joined(t, c, more)
	letGo()
	wait(t, "the first", first)
	for _, ch := range rest {
		wait(t, "the rest", ch)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	require.Len(t, w.ended, 1)
	require.Equal(t, more, w.ended[0].Waiters)
	require.Len(t, w.ended[0].Contexts, maxJoiners)
	seen := map[any]bool{}
	for _, ctx := range w.ended[0].Contexts {
		seen[ctx.Value(caller{})] = true
	}
	require.Len(t, seen, maxJoiners)
	require.NotContains(t, seen, 0)
}

func TestObserverHearsWhyALoadFailed(t *testing.T) {
	t.Parallel()
	theirs := errors.New("no rows")
	for name, tc := range map[string]struct {
		load LoadFunc[int]
		want func(t *testing.T, err error)
	}{
		"an error":     {func(context.Context, string) (int, error) { return 0, errSource }, is(errSource)},
		"not found":    {func(context.Context, string) (int, error) { return 0, theirs }, is(ErrNotFound)},
		"an exit":      {func(context.Context, string) (int, error) { runtime.Goexit(); return 0, nil }, is(ErrLoaderExited)},
		"the deadline": {func(ctx context.Context, _ string) (int, error) { <-ctx.Done(); return 0, ctx.Err() }, is(ErrLoadTimeout)},
		"a panic": {func(context.Context, string) (int, error) { panic("no") }, func(t *testing.T, err error) {
			t.Helper()
			var p *PanicError
			require.ErrorAs(t, err, &p)
			require.Contains(t, string(p.Stack), "observer_test.go")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &witness{}
			c := instance(t, newRedis(t), newSource(), observedBy(w), func(o *Options[int]) {
				o.Load, o.LoadTimeout = tc.load, 100*time.Millisecond
				o.IsNotFound = func(err error) bool { return errors.Is(err, theirs) }
			})
			_, err := c.Get(soon(t), "k")
			require.Error(t, err)
			w.has(t, "the end", func() bool { return len(w.ended) == 1 })
			tc.want(t, w.ended[0].Err)
		})
	}
}

func is(target error) func(*testing.T, error) {
	return func(t *testing.T, err error) { t.Helper(); require.ErrorIs(t, err, target) }
}

// A hit in L1 is not worth a call.
func TestObserverHearsNothingOfHits(t *testing.T) {
	t.Parallel()
	r, s, w := newRedis(t), newSource(), &witness{}
	c := instance(t, r, s, observedBy(w))
	get(t, c, "k")
	w.has(t, "the calls", func() bool { return len(w.calls) == 3 })
	for range 100 {
		get(t, c, "k")
	}
	require.EqualValues(t, 100, c.Stats().LocalHits)
	require.Zero(t, c.Health().EventsWaiting)
	w.mu.Lock()
	defer w.mu.Unlock()
	require.Len(t, w.calls, 3)
	require.Len(t, w.started, 1)
}

func TestObserverOfAnInvalidation(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	from, to := &witness{carry: parent}, &witness{}
	a := instance(t, r, s, observedBy(from))
	instance(t, r, s, observedBy(to))

	require.NoError(t, a.Invalidate(soon(t), "k", "l"))
	require.NoError(t, a.Set(soon(t), "m", 1))
	require.NoError(t, a.InvalidateAll(soon(t)))
	for name, w := range map[string]*witness{"its own": from, "another's": to} {
		w.has(t, name, func() bool { return len(w.invalidations) == 3 })
		for i, keys := range [][]string{{"k", "l"}, {"m"}, nil} {
			e := w.invalidations[i]
			require.Equal(t, "things", e.Cache)
			require.Equal(t, keys, e.Keys)
			require.Equal(t, keys == nil, e.All)
			require.Equal(t, parent, e.Carried)
			require.Equal(t, a.bus.id(), e.Sender)
			require.Equal(t, w == from, e.Own)
			require.True(t, e.LagKnown)
			require.Less(t, e.Lag, patience)
		}
	}
	require.Equal(t, []InvalidationStart{
		{Cache: "things", Keys: []string{"k", "l"}}, {Cache: "things", Keys: []string{"m"}}, {Cache: "things", All: true},
	}, from.begun)
	require.Empty(t, to.begun)
	from.has(t, "the calls", func() bool { return slices.Equal(from.ops(), []string{"invalidate", "set", "invalidate_all"}) })
}

// What is sent together carries the text of one.
func TestObserverOfInvalidationsThatAreSentTogether(t *testing.T) {
	t.Parallel()
	var carried []any
	release := make(chan struct{})
	g := gather{send: func(ctx context.Context, keys []string) error {
		if len(keys) == 1 && keys[0] == "first" {
			<-release
			return nil
		}
		carried = append(carried, ctx.Value(carriedKey{}))
		return nil
	}}
	g.sent = maxSent - 1
	var wg sync.WaitGroup
	do := func(key string) {
		wg.Go(func() { _ = g.do(context.WithValue(soon(t), carriedKey{}, "of "+key), []string{key}) })
	}
	do("first")
	eventually(t, "the first is on its way", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.sent == maxSent
	})
	do("second")
	eventually(t, "the second waits", func() bool { return g.size() == 1 })
	do("third")
	eventually(t, "the third waits", func() bool { return g.size() == 2 })
	close(release)
	wg.Wait()
	require.Equal(t, []any{"of second"}, carried)
}

// Nothing that a stranger publishes is believed to be more than a text.
func TestObserverOfHostileSenders(t *testing.T) {
	t.Parallel()
	r, s, w := newRedis(t), newSource(), &witness{}
	c := instance(t, r, s, observedBy(w))
	for _, sender := range []string{"shell", "x;t=1;c=a b", "x;t=999999999999999", strings.Repeat(";", 256)} {
		r.Publish(channelOf(c, "k"), string(pubsub.Message{Op: pubsub.Invalidate, Sender: sender, Keys: []string{"k"}}.Encode()))
	}
	w.has(t, "all", func() bool { return len(w.invalidations) == 4 })
	for _, e := range w.invalidations {
		require.False(t, e.LagKnown)
		require.Empty(t, e.Carried)
	}
	require.EqualValues(t, 4, c.Stats().Received)
	require.Zero(t, c.Stats().Unreadable)
}

func TestObserverOfSessions(t *testing.T) {
	t.Parallel()
	r, s, w := newRedis(t), newSource(), &witness{}
	c := instance(t, r, s, observedBy(w))
	w.has(t, "it has begun", func() bool { return len(w.sessions) == 1 && w.sessions[0].Began })
	r.down()
	w.has(t, "it has ended", func() bool { return len(w.sessions) == 2 && !w.sessions[1].Began })
	require.Error(t, w.sessions[1].Reason)
	_ = c.Invalidate(soon(t), "k")
	w.has(t, "the call that failed", func() bool {
		return len(w.calls) > 0 && w.calls[0].Op == "invalidate" && w.calls[0].Err != nil
	})
	r.up()
	w.has(t, "another has begun", func() bool { return len(w.sessions) > 2 && w.sessions[2].Began })
}

// An invalidation during a load keeps its result out, with the Observer's calls where they are: LoadEnded comes before the
// fill, and what happens while it runs counts as during the load.
func TestObserverWhileAnInvalidationComes(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	ended, letGo := make(chan struct{}), make(chan struct{})
	var once sync.Once
	o := &endHook{hook: func() { once.Do(func() { close(ended); <-letGo }) }}
	a, b := instance(t, r, s, observedBy(o)), instance(t, r, s)
	s.write("k")
	first := getAsync(soon(t), a, "k")
	wait(t, "LoadEnded", ended)
	s.write("k")
	require.NoError(t, b.Invalidate(soon(t), "k"))
	close(letGo)
	require.Equal(t, result{1, nil}, wait(t, "the first", first), "it asked before")
	require.Equal(t, 2, get(t, b, "k"))
	eventually(t, "the invalidation has come", func() bool { return a.Stats().Received >= 1 })
	require.Equal(t, 2, get(t, a, "k"))
	require.EqualValues(t, 1, a.Stats().Refused)
}

type endHook struct {
	NopObserver
	hook func()
}

func (o *endHook) LoadEnded(context.Context, LoadEnd) { o.hook() }

// Lag is measured by the clock of Redis, however long the message was on its way.
func TestObserverLag(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		sent, received int64
		lag            time.Duration
		known          bool
	}{
		"at once":          {1000, 1000, 0, true},
		"later":            {1000, 1250, 250 * time.Millisecond, true},
		"within the error": {1001, 1000, 0, true},
		"no stamp":         {0, 1000, 0, false},
		"no heartbeat":     {1000, 0, 0, false},
		"nonsense":         {1, int64(2 * time.Hour / time.Millisecond), 0, false},
		"from the future":  {int64(2 * time.Hour / time.Millisecond), 1, 0, false},
	} {
		lag, known := lagOf(tc.sent, tc.received)
		require.Equal(t, tc.lag, lag, name)
		require.Equal(t, tc.known, known, name)
	}
}
