package tiered

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/pubsub"
)

// outgoing is a gather whose trips a test ends.
type outgoing struct {
	*testing.T
	gather
	trips chan trip
}

type trip struct {
	keys  []string
	until time.Time
	end   chan error
}

func newOutgoing(t *testing.T) *outgoing {
	o := &outgoing{T: t, trips: make(chan trip)}
	o.send = func(ctx context.Context, keys []string) error {
		until, ok := ctx.Deadline()
		require.True(t, ok)
		one := trip{keys: keys, until: until, end: make(chan error)}
		o.trips <- one
		return <-one.end
	}
	return o
}

func (o *outgoing) start(ctx context.Context, keys ...string) <-chan error {
	done := make(chan error, 1)
	go func() { done <- o.do(ctx, keys) }()
	return done
}

// full has as many invalidations on their way as go by themselves.
func (o *outgoing) full() (under []trip, done []<-chan error) {
	for i := range maxSent {
		done = append(done, o.start(soon(o), fmt.Sprint("first", i)))
		under = append(under, <-o.trips)
	}
	return under, done
}

func (o *outgoing) await(n int) {
	o.Helper()
	require.Eventually(o, func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return len(o.waiting) == n
	}, patience, time.Millisecond)
}

func (o *outgoing) idle() {
	o.Helper()
	require.Eventually(o, func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.sent == 0 && o.waiting == nil
	}, patience, time.Millisecond)
}

func TestInvalidationsAreSentTogetherWhereThereAreMany(t *testing.T) {
	t.Parallel()
	o := newOutgoing(t)
	under, done := o.full()
	for _, one := range under {
		require.Len(t, one.keys, 1, "alone")
	}
	for i := range 5 {
		done = append(done, o.start(soon(t), "k", fmt.Sprint(i)))
		o.await(i + 1)
	}
	under[0].end <- nil
	require.NoError(t, <-done[0])
	together := <-o.trips
	require.Equal(t, []string{"k", "0", "1", "2", "3", "4"}, together.keys)
	refused := errors.New("refused")
	together.end <- refused
	for _, d := range done[maxSent:] {
		require.ErrorIs(t, <-d, refused)
	}
	under[1].end <- nil
	require.NoError(t, <-done[1])
	o.idle()
}

func TestAnInvalidationThatWaitsObeysItsContext(t *testing.T) {
	t.Parallel()
	o := newOutgoing(t)
	under, _ := o.full()
	early, leaveEarly := context.WithCancel(soon(t))
	gone := o.start(early, "gone")
	o.await(1)
	late, leaveLate := context.WithTimeout(t.Context(), time.Hour)
	going := o.start(late, "going")
	o.await(2)
	stays := o.start(soon(t), "stays")
	o.await(3)
	leaveEarly()
	require.ErrorIs(t, <-gone, context.Canceled)
	under[0].end <- nil
	together := <-o.trips
	require.Equal(t, []string{"going", "stays"}, together.keys)
	until, _ := late.Deadline()
	require.Equal(t, until, together.until, "the most patient one's")
	leaveLate()
	require.ErrorIs(t, <-going, context.Canceled)
	together.end <- nil
	require.NoError(t, <-stays)
	under[1].end <- nil
	o.idle()
}

func TestTogetherIsOneMessage(t *testing.T) {
	t.Parallel()
	o := newOutgoing(t)
	under, _ := o.full()
	many := make([]string, pubsub.MaxKeys-1)
	for i := range many {
		many[i] = fmt.Sprint("many", i)
	}
	long := strings.Repeat("x", pubsub.MaxKeyBytes-4)
	for i, keys := range [][]string{{"a"}, many, {"b", "c"}, {"d"}} {
		o.start(soon(t), keys...)
		o.await(i + 1)
	}
	for i := range 100 {
		o.start(soon(t), fmt.Sprint(long, i))
		o.await(5 + i)
	}
	close(under[0].end)
	first := <-o.trips
	require.Equal(t, slices.Concat([]string{"a"}, many), first.keys)
	close(first.end)
	sent := len(first.keys)
	for sent < 1+len(many)+2+1+100 {
		next := <-o.trips
		require.Less(t, len(pubsub.Message{Op: pubsub.Invalidate, Keys: next.keys}.Encode()), pubsub.MaxMessageBytes)
		sent += len(next.keys)
		close(next.end)
	}
	close(under[1].end)
	o.idle()
}

// Callers at full speed: each gets its own answer after its keys were sent.
func TestGatherUnderLoad(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	sent := map[string]int{}
	g := gather{send: func(_ context.Context, keys []string) error {
		mu.Lock()
		defer mu.Unlock()
		for _, key := range keys {
			sent[key]++
		}
		return nil
	}}
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 500 {
				key := fmt.Sprint(w, "-", i)
				if err := g.do(soon(t), []string{key}); err != nil {
					t.Error(err)
				}
				mu.Lock()
				if sent[key] != 1 {
					t.Errorf("%s was sent %d times", key, sent[key])
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// lateContext is one that has ended, whose waiter is stopped just before it looks.
type lateContext struct {
	context.Context
	asked chan struct{}
	goOn  chan struct{}
}

func (l lateContext) Done() <-chan struct{} {
	close(l.asked)
	<-l.goOn
	return l.Context.Done()
}

// An invalidation whose context has ended is left out of the shared trip, and must not be told that trip's success.
//
//  1. do queues the call, whose ctx has ended or ends now, and is stopped before its select;
//  2. together leaves its keys out, sends the others, and tells all of them how that went;
//  3. do goes on, finds both ready, and picks one at random.
func TestWhoIsLeftOutIsNotConfirmed(t *testing.T) {
	t.Parallel()
	for range 64 {
		o := newOutgoing(t)
		under, done := o.full()
		ended, cancel := context.WithDeadline(context.Background(), time.Now().Add(time.Hour))
		cancel()
		late := lateContext{ended, make(chan struct{}), make(chan struct{})}
		gone := o.start(late, "gone")
		<-late.asked
		stays := o.start(soon(t), "stays")
		o.await(2)
		under[0].end <- nil
		together := <-o.trips
		require.Equal(t, []string{"stays"}, together.keys)
		together.end <- nil
		require.NoError(t, <-stays)
		o.idleBut(under[1], done)
		close(late.goOn)
		require.Error(t, <-gone, "its key was never sent")
	}
}

func (o *outgoing) idleBut(last trip, done []<-chan error) {
	last.end <- nil
	for _, d := range done {
		require.NoError(o, <-d)
	}
	o.idle()
}
