package tiered

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote"
	"github.com/tandemcache/tandem/remote/codec"
)

// lingering values live for a minute, and may stand in for three after it.
func lingering(o *Options[int]) { o.TTL, o.StaleIfError = time.Minute, lingerTime }

const lingerTime = 3 * time.Minute

const pastTTL = time.Minute + time.Millisecond

// ask is Get, and whether the value has expired.
func ask(c *Cache[int]) (v int, stale bool, err error) {
	v, err = c.GetWith(context.Background(), "k", GetOptions[int]{Stale: &stale})
	return v, stale, err
}

func requireStale(t *testing.T, c *Cache[int], want int) {
	t.Helper()
	v, stale, err := ask(c)
	require.NoError(t, err)
	require.Equal(t, want, v)
	require.True(t, stale)
}

func requireFresh(t *testing.T, c *Cache[int], want int) {
	t.Helper()
	v, stale, err := ask(c)
	require.NoError(t, err)
	require.Equal(t, want, v)
	require.False(t, stale)
}

// loseInRedis is an eviction by Redis, which nobody hears of.
func (w *world) loseInRedis() { w.redis.Del("tandem:{things}:k:k") }

func TestTimeStaleIfError(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func() error{
		"error":   func() error { return errSource },
		"panic":   func() error { panic("the source") },
		"timeout": func() error { time.Sleep(2 * time.Second); return nil },
	} {
		for tier, change := range map[string]func(*Options[int]){
			"L2": func(o *Options[int]) { o.LocalTTL = Off }, "both": func(*Options[int]) {},
			"L2 without leases": func(o *Options[int]) { o.NoLease = true },
		} {
			t.Run(name+" "+tier, func(t *testing.T) {
				t.Parallel()
				bubble(t, func(t *testing.T, w *world) {
					var broken atomic.Bool
					c := w.instance(t, lingering, change, func(o *Options[int]) {
						o.LoadTimeout, o.Load = time.Second, failing(o.Load, &broken, fail)
					})
					w.source.write("k")
					requireFresh(t, c, 1)
					broken.Store(true)
					time.Sleep(pastTTL)
					requireStale(t, c, 1)
					require.Equal(t, 1, get(t, c, "k"))
					require.EqualValues(t, 2, c.Stats().Stale)
					require.EqualValues(t, 2, c.Stats().LoadErrors, "each Get has tried")
					_, err := c.Refresh(t.Context(), "k")
					require.Error(t, err, "it asks for what the source says")

					time.Sleep(lingerTime - time.Minute)
					requireStale(t, c, 1)
					time.Sleep(time.Minute)
					_, stale, err := ask(c)
					require.Error(t, err, "past StaleIfError")
					require.False(t, stale)
					broken.Store(false)
					requireFresh(t, c, 1)
					time.Sleep(2 * time.Second) // for the loader that did not obey
				})
			})
		}
	}
}

func TestTimeWithoutStaleIfErrorNothingStandsIn(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		keeps := w.instance(t, lingering)
		c := w.instance(t, func(o *Options[int]) { o.TTL = time.Minute })
		settle()
		get(t, keeps, "k")
		get(t, c, "k")
		w.source.err = errSource
		time.Sleep(pastTTL)
		_, _, err := ask(c)
		require.ErrorIs(t, err, errSource)
		requireStale(t, keeps, 0)
	})
}

// A value that only L1 still has stands in too.
func TestTimeAStandInFromL1(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t, lingering)
		get(t, c, "k")
		w.source.err = errSource
		time.Sleep(pastTTL)
		w.loseInRedis()
		requireStale(t, c, 0)
		time.Sleep(lingerTime)
		_, _, err := ask(c)
		require.ErrorIs(t, err, errSource)
	})
}

// A Set is kept as long as a load's value.
func TestTimeAStandInOfASet(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		f := []*Cache[int]{w.instance(t, lingering), w.instance(t, lingering)}
		require.NoError(t, f[0].Set(t.Context(), "k", 7))
		w.source.err = errSource
		time.Sleep(pastTTL)
		requireStale(t, f[1], 7)
	})
}

// What is invalidated while the load is under way does not stand in for it, from whichever tier it would come.
func TestTimeAnInvalidatedValueDoesNotStandIn(t *testing.T) {
	t.Parallel()
	for name, write := range writes {
		for writer := range 2 {
			for tier, lose := range map[string]func(*world){"L2": func(*world) {}, "L1": (*world).loseInRedis} {
				t.Run(fmt.Sprintf("%s by instance %d in %s", name, writer, tier), func(t *testing.T) {
					t.Parallel()
					bubble(t, func(t *testing.T, w *world) {
						f := []*Cache[int]{w.instance(t, lingering), w.instance(t, lingering)}
						settle()
						get(t, f[0], "k")
						time.Sleep(pastTTL)
						lose(w)
						w.source.err = errSource
						read, letGo := w.source.holdNext()
						early := getAsync(t.Context(), f[0], "k")
						wait(t, "the load", read)
						require.NoError(t, write(f[writer], w.source))
						synctest.Wait()
						late := getAsync(t.Context(), f[0], "k")
						synctest.Wait()
						letGo()
						if r := wait(t, "who came before", early); name != "Set" || r.err != nil {
							require.ErrorIs(t, r.err, errSource)
						}
						if r := wait(t, "who came after", late); name == "Set" {
							require.Equal(t, result{val: 1}, r)
						} else {
							require.ErrorIs(t, r.err, errSource)
						}
						require.Zero(t, f[0].Stats().Stale)
					})
				})
			}
		}
	}
}

// An epoch ends between the reading of the expired value and the lease, and nobody has heard of it yet.
func TestTimeAValueOfAnEndedEpochDoesNotStandIn(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t, lingering, func(o *Options[int]) { o.LocalTTL = Off })
		get(t, c, "k")
		w.source.err = errSource
		time.Sleep(pastTTL)
		requireStale(t, c, 0)
		var once sync.Once
		w.redis.Server().SetPreHook(func(_ *server.Peer, cmd string, args ...string) bool {
			if isScript(cmd, args, 2, 11) {
				once.Do(func() { _ = w.redis.DB(0).Set("tandem:{things}:epoch", remote.EpochText(remote.NewEpoch())+":+") })
			}
			return false
		})
		_, _, err := ask(c)
		w.redis.Server().SetPreHook(nil)
		require.ErrorIs(t, err, errSource)
	})
}

// C5: without Redis a value stands in as long as L1 is proven, and then the loader's error is the answer: it may have been
// invalidated by anybody.
func TestTimeAStandInWithoutRedis(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t, lingering)
		get(t, c, "k")
		w.source.err = errSource
		time.Sleep(pastTTL)
		w.redis.SetError("LOADING Redis is loading the dataset in memory")
		requireStale(t, c, 0)
		time.Sleep(DefaultMaxStaleness)
		began := time.Now()
		_, stale, err := ask(c)
		require.ErrorIs(t, err, errSource)
		require.False(t, stale)
		require.Zero(t, time.Since(began), "nothing is waited for")
		w.redis.SetError("")
		soonAfter(2 * DefaultMaxStaleness)
		requireStale(t, c, 0)
	})
}

// The load is long: the proof with which it began is too old when it fails.
func TestTimeAStandInIsJudgedWhenItIsGivenOut(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t, lingering)
		get(t, c, "k")
		time.Sleep(pastTTL)
		w.source.err = errSource
		read, letGo := w.source.holdNext()
		got := getAsync(t.Context(), c, "k")
		wait(t, "the load", read)
		w.redis.SetError("LOADING Redis is loading the dataset in memory")
		time.Sleep(DefaultMaxStaleness + time.Second)
		letGo()
		require.ErrorIs(t, wait(t, "the Get", got).err, errSource)
	})
}

// The time for which it is kept ends while the load is under way.
func TestTimeAStandInThatEndsDuringTheLoad(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t, lingering)
		get(t, c, "k")
		time.Sleep(time.Minute + lingerTime - time.Second)
		w.source.err = errSource
		read, letGo := w.source.holdNext()
		got := getAsync(t.Context(), c, "k")
		wait(t, "the load", read)
		time.Sleep(2 * time.Second)
		letGo()
		require.ErrorIs(t, wait(t, "the Get", got).err, errSource)
	})
}

// "Not found" is an answer, and ends what could stand in, also where it is not stored.
func TestTimeNotFoundReplacesAStandIn(t *testing.T) {
	t.Parallel()
	for name, ttl := range map[string]time.Duration{"cached": 0, "not cached": Off} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, w *world) {
				c := w.instance(t, lingering, notFoundTTL(ttl))
				get(t, c, "k")
				time.Sleep(pastTTL)
				w.source.missing["k"] = true
				_, stale, err := ask(c)
				require.ErrorIs(t, err, ErrNotFound)
				require.False(t, stale)
				soonAfter(2 * DefaultNotFoundTTL)
				w.source.err = errSource
				_, _, err = ask(c)
				require.ErrorIs(t, err, errSource)
			})
		})
	}
}

// What cannot be decoded does not stand in.
func TestTimeAStandInThatCannotBeDecoded(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		broken := &brokenCodec{Codec: codec.JSON}
		c := w.instance(t, lingering, func(o *Options[int]) { o.LocalTTL, o.Codec = Off, broken })
		get(t, c, "k")
		w.source.err = errSource
		time.Sleep(pastTTL)
		requireStale(t, c, 0)
		broken.crash = true
		_, _, err := ask(c)
		require.ErrorIs(t, err, errSource)
		require.EqualValues(t, 1, c.Stats().BadEntries)
	})
}

// A load that takes long is answered with what there is, and goes on.
// Without something that stands in, a Get waits for its load; and so does it for one that is quick.
// What L1 has stands in also while Redis is waited for, and that time counts for what comes from Redis.
// An invalidation comes while the load is under way: before the soft timeout, and after it, when others have been answered.
// One who has joined a flight before an invalidation, and looks after it at what the flight offers.
// What was evicted during the load is not offered, nor logged as served.
func TestWhatWasEvictedIsNotOffered(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	c := instance(t, r, s)
	f := &flight[int]{key: "k"}
	payload, err := codec.Default.Marshal(7)
	require.NoError(t, err)
	f.expired.Store(&leftover{payload: payload, ticket: ticketOf(c, "k"), o: gateOf(c, "k").look(), until: math.MaxInt64})
	require.Equal(t, 7, c.standIn(f).val)
	c.evict("k")
	require.False(t, c.standIn(f).ok)
}

func TestAgingOptions(t *testing.T) {
	t.Parallel()
	rdb := newRedis(t).client(t)
	for want, change := range map[string]func(*Options[int]){
		"Options.RefreshAfter is 1s, must be at least 2s (MaxStaleness)":                        func(o *Options[int]) { o.RefreshAfter = time.Second },
		"Options.RefreshAfter is 10m0s, must be less than 10m0s (TTL)":                          func(o *Options[int]) { o.RefreshAfter = DefaultTTL },
		"Options.StaleIfError is 1ns, must be at least 1ms":                                     func(o *Options[int]) { o.StaleIfError = 1 },
		"Options.SoftTimeout is 1ns, must be at least 1ms":                                      func(o *Options[int]) { o.StaleIfError, o.SoftTimeout = time.Hour, 1 },
		"Options.SoftTimeout is 1s, needs StaleIfError, without which no expired value is kept": func(o *Options[int]) { o.SoftTimeout = time.Second },
		"Options.SoftTimeout is 10s, must be less than 10s (LoadTimeout)":                       func(o *Options[int]) { o.StaleIfError, o.SoftTimeout = time.Hour, DefaultLoadTimeout },
		"Options.StaleIfError is 87600h0m1s, must be at most 87600h0m0s":                        func(o *Options[int]) { o.StaleIfError = maxDuration + time.Second },
	} {
		var o Options[int]
		change(&o)
		_, err := New(rdb, "ok", o)
		require.ErrorIs(t, err, ErrInvalidOption)
		require.ErrorContains(t, err, want)
	}
	c, err := New(rdb, "ok", Options[int]{RefreshAfter: Off, StaleIfError: Off, SoftTimeout: Off, Logger: quietLog()})
	require.NoError(t, err)
	require.NoError(t, c.Close())
	c, err = New(rdb, "ok", Options[int]{
		RefreshAfter: DefaultTTL - 1, StaleIfError: maxDuration, SoftTimeout: time.Hour, LoadTimeout: Off, Logger: quietLog(),
	})
	require.NoError(t, err)
	require.NoError(t, c.Close())
}
