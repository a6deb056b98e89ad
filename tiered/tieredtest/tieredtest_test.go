package tieredtest_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/leak"
	"github.com/tandemcache/tandem/tiered"
	"github.com/tandemcache/tandem/tiered/tieredtest"
)

func TestMain(m *testing.M) { leak.Main(m) }

// everywhere runs a test in a bubble and outside, where a machine that is busy may need longer for a round trip or a
// heartbeat than the defaults allow.
func everywhere(t *testing.T, test func(t *testing.T, opts tiered.Options[int])) {
	t.Run("in a bubble", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) { test(t, tiered.Options[int]{}) })
	})
	t.Run("outside", func(t *testing.T) {
		t.Parallel()
		test(t, tiered.Options[int]{RedisTimeout: 5 * time.Second, MaxStaleness: 10 * time.Second})
	})
}

func get(t *testing.T, c *tiered.Cache[int], key string) int {
	t.Helper()
	v, err := c.Get(t.Context(), key)
	require.NoError(t, err)
	return v
}

func TestAFleetSharesLoadsAndInvalidations(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, opts tiered.Options[int]) {
		var source tieredtest.Source[int]
		opts.Load = source.Load
		fleet := tieredtest.NewFleet(t, 3, opts)
		source.Set("k", 1)
		for i := range 3 {
			require.Equal(t, 1, get(t, fleet.Cache(i), "k"))
		}
		require.Equal(t, 1, source.Calls())

		source.Set("k", 2)
		require.NoError(t, fleet.Cache(0).Invalidate(t.Context(), "k"))
		fleet.Settle()
		for i := range 3 {
			require.Equal(t, 2, get(t, fleet.Cache(i), "k"))
		}
		require.Equal(t, 2, source.Calls())
	})
}

// Settle is all that is between an invalidation and its being heard, however often it is put to the test.
func TestSettleWaitsForWhatWasPublished(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, opts tiered.Options[int]) {
		fleet := tieredtest.NewFleet(t, 2, opts)
		began := time.Now()
		for n := range 500 {
			require.NoError(t, fleet.Cache(0).Invalidate(t.Context(), "k"))
			fleet.Settle()
			require.EqualValues(t, n+1, fleet.Cache(1).Stats().Received)
		}
		if opts.MaxStaleness == 0 {
			require.Equal(t, began, time.Now(), "without a fault it takes no time")
		}
	})
}

func TestSettleLeavesOutWhatIsClosed(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, opts tiered.Options[int]) {
		fleet := tieredtest.NewFleet(t, 2, opts)
		require.NoError(t, fleet.Cache(0).Close())
		fleet.Settle()
		require.NoError(t, fleet.Cache(1).Invalidate(t.Context(), "k"))
	})
}

// The bound, exactly: an instance that is cut off serves the old value at once, and not after MaxStaleness.
func TestPartitionAndTheBoundOfStaleness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var source tieredtest.Source[int]
		fleet := tieredtest.NewFleet(t, 2, tiered.Options[int]{Load: source.Load})
		a, b := fleet.Cache(0), fleet.Cache(1)
		source.Set("k", 1)
		require.Equal(t, 1, get(t, b, "k"))

		fleet.Partition(1)
		source.Set("k", 2)
		require.NoError(t, a.Invalidate(t.Context(), "k"))
		invalidated := time.Now()
		require.Equal(t, 2, get(t, a, "k"))
		require.Equal(t, 1, get(t, b, "k"), "it cannot know yet")

		stale := 0
		for time.Since(invalidated) <= tiered.DefaultMaxStaleness {
			if get(t, b, "k") == 1 {
				stale++
			}
			time.Sleep(10 * time.Millisecond)
		}
		require.Positive(t, stale)
		require.Equal(t, 2, get(t, b, "k"))
		require.False(t, b.Health().LocalTrusted)

		fleet.Heal(1)
		fleet.Settle()
		require.True(t, b.Health().LocalTrusted)
		require.Equal(t, 2, get(t, b, "k"))
	})
}

func TestPartition(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, opts tiered.Options[int]) {
		var source tieredtest.Source[int]
		opts.Load, opts.RedisTimeout = source.Load, 50*time.Millisecond
		fleet := tieredtest.NewFleet(t, 2, opts)
		a, b := fleet.Cache(0), fleet.Cache(1)
		source.Set("k", 1)
		fleet.Partition(1)
		require.ErrorIs(t, b.Invalidate(t.Context(), "k"), tiered.ErrPending)
		require.Equal(t, 1, get(t, b, "k"), "it loads by itself")
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, fleet.Client(1).Ping(ctx).Err(), context.DeadlineExceeded, "a new connection hangs")
		fleet.Settle() // the other one
		require.NoError(t, fleet.Client(0).Ping(t.Context()).Err())

		fleet.Heal(1)
		fleet.Settle()
		require.Zero(t, b.Health().PendingKeys)
		require.NoError(t, fleet.Client(1).Ping(t.Context()).Err())
		fleet.Settle() // what was pending is published by now, and may not have been when the first one was waited for
		require.Positive(t, a.Stats().Received, "what was pending")
	})
}

// A partition that ends before anybody noticed loses nothing: what was on its way arrives.
func TestAShortPartition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fleet := tieredtest.NewFleet(t, 2, tiered.Options[int]{})
		fleet.Partition(1)
		require.NoError(t, fleet.Cache(0).Invalidate(t.Context(), "k"))
		synctest.Wait()
		require.Zero(t, fleet.Cache(1).Stats().Received)
		fleet.Heal(1)
		fleet.Settle()
		require.EqualValues(t, 1, fleet.Cache(1).Stats().Received)
		require.EqualValues(t, 1, fleet.Cache(1).Stats().Sessions, "on the connection that it had")
	})
}

func TestDelay(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, opts tiered.Options[int]) {
		fleet := tieredtest.NewFleet(t, 2, opts)
		a, b := fleet.Cache(0), fleet.Cache(1)
		const d = 20 * time.Millisecond
		require.NoError(t, fleet.Client(1).Ping(t.Context()).Err())
		fleet.Delay(1, d)
		began := time.Now()
		require.NoError(t, fleet.Client(1).Ping(t.Context()).Err())
		took := time.Since(began)
		require.GreaterOrEqual(t, took, 2*d)
		if opts.MaxStaleness == 0 {
			require.Equal(t, 2*d, took)
		}

		began = time.Now()
		require.NoError(t, a.Invalidate(t.Context(), "k"))
		if opts.MaxStaleness == 0 {
			require.Zero(t, b.Stats().Received)
		}
		fleet.Settle()
		require.EqualValues(t, 1, b.Stats().Received)
		require.GreaterOrEqual(t, time.Since(began), d)

		fleet.Heal(1)
		if opts.MaxStaleness == 0 {
			time.Sleep(2 * d)
			began = time.Now()
			require.NoError(t, fleet.Client(1).Ping(t.Context()).Err())
			require.Equal(t, began, time.Now())
		}
	})
}

func TestANewConnectionIsDelayedToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fleet := tieredtest.NewFleet(t, 1, tiered.Options[int]{})
		fleet.Delay(0, 10*time.Millisecond)
		began := time.Now()
		require.NoError(t, fleet.Client(0).Ping(t.Context()).Err())
		require.GreaterOrEqual(t, time.Since(began), 40*time.Millisecond)
	})
}

func TestDropMessages(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, opts tiered.Options[int]) {
		var source tieredtest.Source[int]
		opts.Load, opts.MaxStaleness = source.Load, time.Second // the time in which silence is noticed depends on it
		fleet := tieredtest.NewFleet(t, 2, opts)
		a, b := fleet.Cache(0), fleet.Cache(1)
		source.Set("k", 1)
		require.Equal(t, 1, get(t, b, "k"))

		fleet.DropMessages(1)
		source.Set("k", 2)
		require.NoError(t, a.Invalidate(t.Context(), "k"))
		fleet.Settle()
		require.Zero(t, b.Stats().Received)
		require.NoError(t, b.Invalidate(t.Context(), "other"), "it writes as before")

		require.Eventually(t, func() bool { return b.Stats().Sessions > 1 || !b.Health().LocalTrusted }, 10*time.Second, time.Millisecond)
		require.Zero(t, b.Stats().Received, "a new subscription is deaf as well")

		fleet.Heal(1)
		fleet.Settle()
		require.Equal(t, 2, get(t, b, "k"))
		require.Eventually(t, func() bool {
			require.NoError(t, a.Invalidate(t.Context(), "k"))
			fleet.Settle()
			return b.Stats().Received > 0
		}, 10*time.Second, time.Millisecond)
	})
}

// What was lost while an instance was deaf is not made good by hearing again on the same connection, so it must not.
func TestHealingDropMessagesEndsTheDeafSubscription(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var source tieredtest.Source[int]
		fleet := tieredtest.NewFleet(t, 2, tiered.Options[int]{Load: source.Load})
		source.Set("k", 1)
		require.Equal(t, 1, get(t, fleet.Cache(1), "k"))
		fleet.DropMessages(1)
		source.Set("k", 2)
		require.NoError(t, fleet.Cache(0).Invalidate(t.Context(), "k"))
		fleet.Heal(1)
		require.Equal(t, 1, get(t, fleet.Cache(1), "k"), "within MaxStaleness")
		fleet.Settle()
		require.Equal(t, 2, get(t, fleet.Cache(1), "k"))
		require.EqualValues(t, 2, fleet.Cache(1).Stats().Sessions)
	})
}

func TestRedisDown(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, opts tiered.Options[int]) {
		var source tieredtest.Source[int]
		opts.Load = source.Load
		fleet := tieredtest.NewFleet(t, 2, opts)
		source.Set("k", 1)
		require.Equal(t, 1, get(t, fleet.Cache(0), "k"))

		fleet.RedisDown()
		require.ErrorIs(t, fleet.Cache(0).Invalidate(t.Context(), "other"), tiered.ErrPending)
		require.Error(t, fleet.Client(0).Ping(t.Context()).Err())
		source.Set("new", 7)
		require.Equal(t, 7, get(t, fleet.Cache(1), "new"))

		fleet.RedisUp()
		fleet.Settle()
		require.NoError(t, fleet.Client(0).Ping(t.Context()).Err())
		require.Equal(t, 1, get(t, fleet.Cache(1), "k"))
		require.Equal(t, 2, source.Calls(), "its data is there")
		require.Greater(t, fleet.Cache(1).Stats().Sessions, uint64(1))
	})
}

func TestFastForward(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, opts tiered.Options[int]) {
		var source tieredtest.Source[int]
		opts.Load, opts.TTL = source.Load, time.Hour
		if opts.MaxStaleness == 0 {
			opts.MaxStaleness = 10 * time.Second // fewer heartbeats in all these hours
		}
		fleet := tieredtest.NewFleet(t, 2, opts)
		source.Set("k", 1)
		calls := func() int {
			get(t, fleet.Cache(0), "k")
			get(t, fleet.Cache(1), "k")
			return source.Calls()
		}
		require.Equal(t, 1, calls())
		fleet.FastForward(50 * time.Minute)
		require.Equal(t, 1, calls())
		fleet.FastForward(5 * time.Minute)
		require.Equal(t, 1, calls())
		fleet.FastForward(6 * time.Minute)
		require.Equal(t, 2, calls())
		fleet.FastForward(59 * time.Minute)
		require.Equal(t, 2, calls())
		fleet.FastForward(2 * time.Minute)
		require.Equal(t, 3, calls())
	})
}

// An hour of a fleet that is broken all the time takes a moment, and TTLs end to the millisecond.
func TestTimeInABubbleIsExact(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var source tieredtest.Source[int]
		cache := tieredtest.New(t, tiered.Options[int]{Load: source.Load, TTL: time.Hour, LocalTTL: 2 * time.Hour})
		source.Set("k", 1)
		get(t, cache, "k")
		time.Sleep(time.Hour - time.Millisecond)
		get(t, cache, "k")
		require.Equal(t, 1, source.Calls())
		time.Sleep(time.Millisecond)
		get(t, cache, "k")
		require.Equal(t, 2, source.Calls())
	})
}

func TestTheSource(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, opts tiered.Options[int]) {
		var source tieredtest.Source[int]
		opts.Load, opts.NotFoundTTL = source.Load, tiered.Off
		cache := tieredtest.New(t, opts)
		_, err := cache.Get(t.Context(), "k")
		require.ErrorIs(t, err, tiered.ErrNotFound)

		broken := errors.New("broken")
		source.Fail(broken)
		source.Set("k", 1)
		_, err = cache.Get(t.Context(), "k")
		require.ErrorIs(t, err, broken)
		source.Fail(nil)

		reached, release := source.Block()
		var wg sync.WaitGroup
		wg.Go(func() {
			if v, err := cache.Get(t.Context(), "k"); v != 1 || err != nil {
				t.Errorf("got %d, %v", v, err)
			}
		})
		<-reached
		source.Set("k", 2)
		require.NoError(t, cache.Invalidate(t.Context(), "k"))
		release()
		release()
		wg.Wait()
		require.Equal(t, 2, get(t, cache, "k"))

		_, release = source.Block()
		defer release()
		require.NoError(t, cache.Invalidate(t.Context(), "k"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err = source.Load(ctx, "k")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		release()

		source.Delete("k")
		_, err = cache.Get(t.Context(), "k")
		require.ErrorIs(t, err, tiered.ErrNotFound)
		require.Equal(t, 6, source.Calls())
	})
}

// A fleet that a test leaves broken still ends without a goroutine (TestMain, and the end of the bubble) and without an error.
func TestWhatIsLeftBrokenIsClosed(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, opts tiered.Options[int]) {
		var source tieredtest.Source[int]
		opts.Load = source.Load
		fleet := tieredtest.NewFleet(t, 4, opts)
		fleet.Partition(0)
		fleet.Delay(1, 100*time.Millisecond)
		fleet.DropMessages(2)
		fleet.RedisDown()
		for i := range 4 {
			require.ErrorIs(t, fleet.Cache(i).Invalidate(t.Context(), "k"), tiered.ErrPending)
		}
	})
}
