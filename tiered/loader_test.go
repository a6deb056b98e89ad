package tiered

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote/codec"
)

type traceKey struct{}

func with(load LoadFunc[int]) func(*Options[int]) {
	return func(o *Options[int]) { o.Load = load }
}

func TestWaitersObeyTheirOwnContext(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	c := instance(t, r, s)
	trustsRedis(t, c) // or the flight is not joined
	read, letGo := s.holdNext()
	defer letGo()

	leaderCtx, cancelLeader := context.WithCancel(context.Background())
	leader := getAsync(leaderCtx, c, "k")
	wait(t, "the load", read)
	follower := getAsync(soon(t), c, "k")
	short, cancelShort := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancelShort()
	require.ErrorIs(t, wait(t, "the impatient one", getAsync(short, c, "k")).err, context.DeadlineExceeded)

	cancelLeader()
	require.ErrorIs(t, wait(t, "the leader", leader).err, context.Canceled)
	letGo()
	require.Equal(t, result{}, wait(t, "the follower", follower))
	require.EqualValues(t, 1, s.loads.Load())

	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := c.Get(ended, "another")
	require.ErrorIs(t, err, context.Canceled)
	_, err = c.Get(ended, "k")
	require.NoError(t, err, "an L1 hit needs no time")
	require.EqualValues(t, 1, s.loads.Load())
}

func TestTheLoadersContext(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	c := instance(t, r, newSource(), with(func(ctx context.Context, _ string) (int, error) {
		deadline, ok := ctx.Deadline()
		if !ok || time.Until(deadline) < DefaultLoadTimeout/2 {
			return 0, fmt.Errorf("deadline %v, %v", deadline, ok)
		}
		if ctx.Value(traceKey{}) != "trace" {
			return 0, errors.New("the caller's values are missing")
		}
		return 1, nil
	}))
	ctx, cancel := context.WithTimeout(context.WithValue(context.Background(), traceKey{}, "trace"), patience/5)
	defer cancel()
	v, err := c.Get(ctx, "k")
	require.NoError(t, err)
	require.Equal(t, 1, v)
}

func TestALoadersErrorIsNotCached(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	f := fleet(t, 2, r, s)
	s.err = errSource
	for i := range 4 {
		began := time.Now()
		_, err := f[i%2].Get(soon(t), "k")
		require.ErrorIs(t, err, errSource)
		require.Less(t, time.Since(began), time.Second, "it does not delay the next caller")
	}
	require.EqualValues(t, 4, s.loads.Load())
	s.setErr(nil)
	require.Equal(t, 0, get(t, f[0], "k"))
	require.EqualValues(t, 2, f[0].Stats().LoadErrors)
}

// One instance's failing load does not make the others wait for theirs one after the other.
func TestWaitersOfAFailedLoad(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	f := fleet(t, 3, r, s, func(o *Options[int]) { o.LeaseWait = time.Hour })
	s.err = errSource
	read, letGo := s.holdNext()
	first := getAsync(soon(t), f[0], "k")
	wait(t, "the load", read)
	others := []<-chan result{getAsync(soon(t), f[1], "k"), getAsync(soon(t), f[2], "k")}
	eventually(t, "they wait", func() bool { return f[1].Stats().LeaseWaits > 0 && f[2].Stats().LeaseWaits > 0 })
	letGo()
	require.ErrorIs(t, wait(t, "the first", first).err, errSource)
	for _, other := range others {
		require.ErrorIs(t, wait(t, "another", other).err, errSource)
	}
	require.EqualValues(t, 3, s.loads.Load())
}

func TestAPanicBecomesAnError(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	cause := errors.New("cause")
	c := instance(t, r, newSource(), with(func(_ context.Context, key string) (int, error) {
		if key == "error" {
			panic(cause)
		}
		panic("a word")
	}))
	_, err := c.Get(soon(t), "k")
	var p *PanicError
	require.ErrorAs(t, err, &p)
	require.Equal(t, "a word", p.Value)
	require.Contains(t, string(p.Stack), "TestAPanicBecomesAnError")
	require.ErrorContains(t, err, "loader_test.go:")
	_, err = c.Get(soon(t), "error")
	require.ErrorIs(t, err, cause)
	require.Zero(t, c.flights.underway())
	require.False(t, r.Exists("tandem:{things}:k:k"), "the lease is given up")
}

func TestGoexitBecomesAnError(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	c := instance(t, r, newSource(), with(func(context.Context, string) (int, error) {
		runtime.Goexit()
		return 0, nil
	}))
	for range 2 {
		_, err := c.Get(soon(t), "k")
		require.ErrorIs(t, err, ErrLoaderExited)
	}
	require.Zero(t, c.flights.underway())
}

func TestLoadTimeout(t *testing.T) {
	t.Parallel()
	for name, obedient := range map[string]bool{"the loader obeys": true, "the loader does not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRedis(t)
			gate := make(chan struct{})
			defer close(gate)
			var calls atomic.Int64
			c := instance(t, r, newSource(), func(o *Options[int]) {
				o.LoadTimeout = 2 * time.Second // which the second load has as well
				o.Load = func(ctx context.Context, _ string) (int, error) {
					if calls.Add(1) > 1 {
						return 7, nil
					}
					if obedient {
						<-ctx.Done()
						return 0, fmt.Errorf("query: %w", ctx.Err())
					}
					<-gate
					return 1, nil
				}
			})
			_, err := c.Get(soon(t), "k")
			require.ErrorIs(t, err, ErrLoadTimeout)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, 7, get(t, c, "k"), "the next caller is not held up")
		})
	}
}

func TestNotFoundIsCachedInBothTiers(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	s.missing["k"] = true
	f := fleet(t, 2, r, s)
	for _, c := range []*Cache[int]{f[0], f[0], f[1], f[1]} {
		v, err := c.Get(soon(t), "k")
		require.ErrorIs(t, err, ErrNotFound)
		require.Zero(t, v)
	}
	require.EqualValues(t, 1, s.loads.Load())
	require.EqualValues(t, 1, f[0].Stats().LocalHits)
	require.LessOrEqual(t, r.TTL("tandem:{things}:k:k"), DefaultNotFoundTTL)

	s.missing["k"] = false
	s.write("k")
	require.NoError(t, f[1].Invalidate(soon(t), "k"))
	require.Equal(t, 1, get(t, f[1], "k"))
}

func TestNotFoundOff(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	s.missing["k"] = true
	c := instance(t, r, s, func(o *Options[int]) { o.NotFoundTTL = Off })
	for range 3 {
		_, err := c.Get(soon(t), "k")
		require.ErrorIs(t, err, ErrNotFound)
	}
	require.EqualValues(t, 3, s.loads.Load())
	require.False(t, r.Exists("tandem:{things}:k:k"))
}

func TestIsNotFound(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	c := instance(t, r, newSource(), func(o *Options[int]) {
		o.Load = func(context.Context, string) (int, error) { return 0, sql.ErrNoRows }
		o.IsNotFound = func(err error) bool { return errors.Is(err, sql.ErrNoRows) }
	})
	_, err := c.Get(soon(t), "k")
	require.ErrorIs(t, err, ErrNotFound)

	p := instance(t, r, newSource(), func(o *Options[int]) {
		o.Load = func(context.Context, string) (int, error) { return 0, errSource }
		o.IsNotFound = func(error) bool { panic("no") }
	})
	_, err = p.Get(soon(t), "other")
	require.ErrorIs(t, err, errSource)
}

// A consumer without a loader takes no lease and writes no "not found" for those who have one.
func TestWithoutALoader(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	s.write("k")
	reader := instance(t, r, s, with(nil))
	_, err := reader.Get(soon(t), "k")
	require.ErrorIs(t, err, ErrNotFound)
	require.False(t, r.Exists("tandem:{things}:k:k"))
	_, err = reader.Refresh(soon(t), "k")
	require.ErrorIs(t, err, ErrNotFound)

	owner := instance(t, r, s)
	require.Equal(t, 1, get(t, owner, "k"))
	require.Equal(t, 1, get(t, reader, "k"))

	v, err := reader.GetWith(soon(t), "mine", GetOptions[int]{Load: func(context.Context, string) (int, error) { return 5, nil }})
	require.NoError(t, err)
	require.Equal(t, 5, v)
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	f := fleet(t, 2, r, s)
	require.Equal(t, 0, get(t, f[0], "k"))
	s.write("k")
	require.Equal(t, 0, get(t, f[0], "k"))
	v, err := f[0].Refresh(soon(t), "k")
	require.NoError(t, err)
	require.Equal(t, 1, v)
	require.Equal(t, 1, get(t, f[0], "k"), "its own L1")
	require.Equal(t, 1, get(t, f[1], "k"), "L2")
	require.EqualValues(t, 2, s.loads.Load())
}

// A Refresh wants what the source says from now on: it must not join a load that has read already.
func TestRefreshDoesNotJoinAnOlderLoad(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	f := fleet(t, 2, r, s)
	for i, c := range f {
		key := keyName(i)
		read, letGo := s.holdNext()
		old := getAsync(soon(t), f[0], key)
		wait(t, "the load", read)
		s.write(key)
		v, err := c.Refresh(soon(t), key)
		require.NoError(t, err)
		require.Equal(t, 1, v, "it takes the lease over, also from another instance")
		letGo()
		require.Equal(t, 0, wait(t, "the old load", old).val)
		require.Equal(t, 1, get(t, f[1], key))
	}
}

// The third flight of a key that is invalidated again and again queues, and everybody joins it.
func TestFlightsOfAHotWrittenKeyAreBounded(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	gate := make(chan struct{})
	var running, most atomic.Int64
	c := instance(t, r, newSource(), with(func(context.Context, string) (int, error) {
		raise(&most, running.Add(1))
		<-gate
		running.Add(-1)
		return 1, nil
	}))
	var all []<-chan result
	for i := range 30 {
		all = append(all, getAsync(soon(t), c, "k"))
		want := min(i/3+1, maxRunning)
		eventually(t, "it runs or queues", func() bool { return running.Load() == int64(want) })
		if i%3 == 2 {
			require.NoError(t, c.Invalidate(soon(t), "k"))
		}
	}
	close(gate)
	for _, ch := range all {
		require.Equal(t, result{val: 1}, wait(t, "all", ch))
	}
	require.EqualValues(t, maxRunning, most.Load())
	eventually(t, "no flight is left", func() bool { return c.flights.underway() == 0 })
}

func TestClose(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	c := instance(t, r, s)
	get(t, c, "warm")
	read, letGo := s.holdNext()
	late := getAsync(soon(t), c, "k")
	wait(t, "the load", read)
	require.NoError(t, c.Close())
	require.ErrorIs(t, wait(t, "the waiter", late).err, ErrClosed)
	letGo() // its result is dropped

	ctx := soon(t)
	_, err := c.Get(ctx, "warm")
	require.ErrorIs(t, err, ErrClosed)
	_, err = c.GetWith(ctx, "warm", GetOptions[int]{})
	require.ErrorIs(t, err, ErrClosed)
	_, err = c.Refresh(ctx, "warm")
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, c.Set(ctx, "warm", 1), ErrClosed)
	require.ErrorIs(t, c.Invalidate(ctx, "warm"), ErrClosed)
	require.ErrorIs(t, c.InvalidateAll(ctx), ErrClosed)
	require.ErrorIs(t, c.Ready(ctx), ErrClosed)
	require.NoError(t, c.Close())
	_ = c.Stats()
	require.False(t, c.Health().LocalTrusted)
	require.NoError(t, r.client(t).Ping(ctx).Err(), "the client is the caller's")
}

func TestCloseUnderLoad(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	for range 10 {
		c := instance(t, r, s)
		done := make(chan struct{})
		for g := range 6 {
			go func() {
				defer func() { done <- struct{}{} }()
				for i := range 100 {
					key := keyName(i % 7)
					var err error
					switch (g + i) % 4 {
					case 0:
						err = c.Invalidate(context.Background(), key)
					case 1:
						err = c.Set(context.Background(), key, i)
					default:
						_, err = c.Get(context.Background(), key)
					}
					if err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrPending) {
						t.Errorf("%v", err)
					}
				}
			}()
		}
		eventually(t, "some work", func() bool { return c.Stats().Loads > 3 })
		err := c.Close()
		require.True(t, err == nil || errors.Is(err, ErrPending), "%v", err)
		for range 6 {
			wait(t, "the workers", done)
		}
	}
}

// exits ends the goroutine that decodes it.
type exits int

func (*exits) UnmarshalJSON([]byte) error {
	runtime.Goexit()
	return nil
}

func TestADecoderThatExits(t *testing.T) {
	t.Parallel()
	for name, cd := range map[string]codec.Codec{"on the caller's goroutine": codec.JSON, "on the flight's": named{codec.JSON}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRedis(t)
			c, err := New(r.client(t), "things", Options[exits]{
				Load: func(context.Context, string) (exits, error) { return 1, nil }, Codec: cd, LocalTTL: Off, Logger: quietLog(),
				RedisTimeout: 2 * time.Second,
			})
			require.NoError(t, err)
			t.Cleanup(func() { _ = c.Close() })
			require.NoError(t, c.Ready(soon(t)))
			_, err = c.Get(soon(t), "k")
			require.NoError(t, err, "loaded, and stored")
			got := make(chan error, 1)
			go func() { // which may be the one that ends
				defer close(got)
				_, err := c.Get(soon(t), "k")
				got <- err
			}()
			if err, ok := <-got; ok {
				require.ErrorIs(t, err, ErrLoaderExited)
			}
			eventually(t, "no flight is left", func() bool { return c.flights.underway() == 0 })
			require.NoError(t, c.Set(soon(t), "other", 0))
		})
	}
}

// named is a codec of a user's.
type named struct{ codec.Codec }

func (named) Name() string { return "json-too" }
