package tiered_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered"
	"github.com/tandemcache/tandem/tiered/tieredtest"
)

// permissions is a source whose one value counts how often it was changed. A test may hold its loads.
type permissions struct {
	version atomic.Int64
	hold    atomic.Pointer[chan struct{}]
}

func (p *permissions) load(ctx context.Context, _ string) (int64, error) {
	v := p.version.Load()
	if hold := p.hold.Load(); hold != nil {
		select {
		case <-*hold:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return v, nil
}

const waitBound = 2 * time.Second

// office is a fleet that is about to revoke a permission, in a bubble.
type office struct {
	*testing.T
	*tieredtest.Fleet[int64]
	permissions
}

func newOffice(t *testing.T, n int, change ...func(*tiered.Options[int64])) *office {
	t.Helper()
	o := &office{T: t}
	opts := tiered.Options[int64]{Load: o.load, Acknowledge: true, MaxStaleness: waitBound}
	for _, f := range change {
		f(&opts)
	}
	o.Fleet = tieredtest.NewFleet(t, n, opts)
	o.FastForward(2 * waitBound) // since when they are registered
	return o
}

// inOffice runs a test in a bubble.
func inOffice(t *testing.T, n int, test func(o *office), change ...func(*tiered.Options[int64])) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Helper()
		test(newOffice(t, n, change...))
	})
}

func (o *office) get(i int) int64 {
	o.Helper()
	v, err := o.Cache(i).Get(o.Context(), "alice")
	require.NoError(o, err)
	return v
}

// revoke changes the source, invalidates on instance 0, and returns how long that takes.
func (o *office) revoke() time.Duration {
	o.Helper()
	o.version.Add(1)
	began := time.Now()
	require.NoError(o, o.Cache(0).InvalidateAndWait(o.Context(), "alice"))
	took := time.Since(began)
	synctest.Wait() // what is done in the background
	return took
}

// nobodyHasOld requires that the very next Get of each instance returns what the source has.
func (o *office) nobodyHasOld(n int) {
	o.Helper()
	for i := range n {
		require.Equal(o, o.version.Load(), o.get(i), "instance %d", i)
	}
}

func TestInvalidateAndWaitReturnsWhenAllHaveAcknowledged(t *testing.T) {
	inOffice(t, 3, func(o *office) {
		for range 5 {
			o.nobodyHasOld(3)
			require.Zero(o, o.revoke())
			o.nobodyHasOld(3)
		}
		o.Delay(2, 50*time.Millisecond)
		o.nobodyHasOld(3)
		took := o.revoke()
		o.nobodyHasOld(3)
		require.GreaterOrEqual(o, took, 100*time.Millisecond, "the message, and the acknowledgement")
		require.Less(o, took, waitBound/2, "also if it connects for that")
	})
}

func TestInvalidateAndWaitWithoutAcknowledge(t *testing.T) {
	inOffice(t, 2, func(o *office) {
		o.nobodyHasOld(2)
		o.DropMessages(1)
		took := o.revoke()
		o.nobodyHasOld(2)
		require.Greater(o, took, waitBound)
		require.Less(o, took, waitBound+10*time.Millisecond)
		require.Zero(o, o.Client(0).Exists(o.Context(), "tandem:{tieredtest}:instances").Val(), "and nobody registers")
	}, func(opts *tiered.Options[int64]) { opts.Acknowledge = false })
}

// One that hears nothing, or cannot say so, is waited for until its L1 has no proof any more.
func TestInvalidateAndWaitWaitsForWhoDoesNotHear(t *testing.T) {
	for name, fault := range map[string]func(o *office){
		"messages are lost": func(o *office) { o.DropMessages(1) },
		"cut off":           func(o *office) { o.Partition(1) },
	} {
		t.Run(name, func(t *testing.T) {
			inOffice(t, 3, func(o *office) {
				o.nobodyHasOld(3)
				fault(o)
				require.Equal(o, o.version.Load(), o.get(1))
				require.Greater(o, o.revoke(), waitBound)
				require.Equal(o, o.version.Load(), o.get(1), "the very first read after")
				o.nobodyHasOld(3)
				o.Heal(1)
				o.Settle()
				o.FastForward(3 * waitBound)
				o.nobodyHasOld(3)
				require.Zero(o, o.revoke())
				o.nobodyHasOld(3)
			})
		})
	}
}

// An instance that Redis does not hear from has been given up: nobody waits for it. Then it must not serve what it
// has loaded a moment ago, nor share a load that has read.
func TestWhoWasGivenUpServesNothingWithoutProof(t *testing.T) {
	inOffice(t, 2, func(o *office) {
		o.nobodyHasOld(2)
		o.Partition(1)
		require.Greater(o, o.revoke(), waitBound)
		o.FastForward(2 * waitBound)
		require.Zero(o, o.revoke(), "it has been given up")

		o.nobodyHasOld(2) // which loads
		require.Zero(o, o.revoke())
		o.nobodyHasOld(2)

		hold := make(chan struct{})
		o.hold.Store(&hold)
		first := make(chan int64, 1)
		old := o.version.Load()
		go func() { first <- o.get(1) }()
		synctest.Wait()
		time.Sleep(waitBound / 4)
		o.hold.Store(nil)
		require.Zero(o, o.revoke())
		o.nobodyHasOld(2)
		close(hold)
		require.Equal(o, old, <-first, "who asked before")
	})
}

// A process that ends without a word costs the bound, and not for ever; one that is closed costs nothing.
func TestInvalidateAndWaitAfterAnInstanceHasGone(t *testing.T) {
	inOffice(t, 3, func(o *office) {
		o.nobodyHasOld(3)
		require.NoError(o, o.Cache(2).Close())
		synctest.Wait() // Redis has noticed
		require.Zero(o, o.revoke(), "closed")
		o.Partition(1) // as good as dead
		require.Greater(o, o.revoke(), waitBound)
		require.Less(o, o.revoke(), waitBound/4, "while its proof may count")
		for range 3 {
			require.Zero(o, o.revoke())
		}
		require.Equal(o, o.version.Load(), o.get(1))
	})
}

func TestInvalidateAndWaitWhenRedisIsAway(t *testing.T) {
	inOffice(t, 2, func(o *office) {
		o.nobodyHasOld(2)
		o.RedisDown()
		o.version.Add(1)
		began := time.Now()
		require.ErrorIs(o, o.Cache(0).InvalidateAndWait(o.Context(), "alice"), tiered.ErrPending)
		require.Less(o, time.Since(began), waitBound/4, "at once")
		require.Equal(o, o.version.Load(), o.get(0))
		o.RedisUp()
		o.Settle()
		o.nobodyHasOld(2)
	})
}

// What comes between Redis' confirmation and the acknowledgements.
func TestInvalidateAndWaitIsInterrupted(t *testing.T) {
	inOffice(t, 2, func(o *office) {
		o.nobodyHasOld(2)
		o.DropMessages(1)
		o.version.Add(1)
		ctx, cancel := context.WithTimeout(o.Context(), waitBound/4)
		defer cancel()
		err := o.Cache(0).InvalidateAndWait(ctx, "alice")
		require.ErrorIs(o, err, context.DeadlineExceeded)
		require.NotErrorIs(o, err, tiered.ErrPending, "it is invalidated")
		require.Equal(o, o.version.Load(), o.get(0))

		done := make(chan error, 1)
		go func() { done <- o.Cache(0).InvalidateAndWait(o.Context(), "alice") }()
		time.Sleep(waitBound / 4)
		require.NoError(o, o.Cache(0).Close())
		require.ErrorIs(o, <-done, tiered.ErrClosed)
		require.ErrorIs(o, o.Cache(0).InvalidateAndWait(o.Context(), "alice"), tiered.ErrClosed)
	})
}

func TestInvalidateAndWaitOfOddKeys(t *testing.T) {
	inOffice(t, 2, func(o *office) {
		o.nobodyHasOld(2)
		began := time.Now()
		require.NoError(o, o.Cache(0).InvalidateAndWait(o.Context()))
		require.ErrorIs(o, o.Cache(0).InvalidateAndWait(o.Context(), ""), tiered.ErrInvalidKey)
		o.version.Add(1)
		err := o.Cache(0).InvalidateAndWait(o.Context(), "", "alice")
		require.ErrorIs(o, err, tiered.ErrInvalidKey)
		o.nobodyHasOld(2)
		many := []string{"alice"}
		for i := range 2500 {
			many = append(many, time.Duration(i).String())
		}
		o.version.Add(1)
		require.NoError(o, o.Cache(0).InvalidateAndWait(o.Context(), many...))
		require.Zero(o, time.Since(began))
		o.nobodyHasOld(2)
	})
}

// One that is closing takes itself out of the registry. From then on nobody asks it, so it must not serve.
func TestNothingIsServedAfterResigning(t *testing.T) {
	inOffice(t, 2, func(o *office) {
		o.nobodyHasOld(2)
		o.Delay(1, 10*time.Millisecond) // so that it can be seen closing
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			if err := o.Cache(1).Close(); err != nil {
				o.Error(err)
			}
		}()
		o.Cleanup(func() { <-closed })
		id := o.Client(0).HKeys(o.Context(), "tandem:{tieredtest}:instances").Val()
		require.Len(o, id, 2)
		for len(id) == 2 {
			time.Sleep(time.Millisecond)
			id = o.Client(0).HKeys(o.Context(), "tandem:{tieredtest}:instances").Val()
		}
		select {
		case <-closed:
			require.Fail(o, "its connections should still be there")
		default:
		}
		_, err := o.Cache(1).Get(o.Context(), "alice")
		require.ErrorIs(o, err, tiered.ErrClosed)
	})
}
