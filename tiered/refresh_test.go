package tiered

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/local"
)

// aging refreshes after a minute; L1 keeps what L2 has.
func aging(o *Options[int]) {
	o.RefreshAfter, o.TTL, o.LocalTTL = time.Minute, 10*time.Minute, 10*time.Minute
}

// pastRefresh is when a value that was loaded at once is due.
const pastRefresh = time.Minute + time.Millisecond

// settle waits for the heartbeat after the subscription's beginning: what is read from L2 before it is not kept in L1.
func settle() { soonAfter(time.Second) }

// soonAfter waits for what runs in the background, in a bubble.
func soonAfter(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestTimeRefresh(t *testing.T) {
	t.Parallel()
	for name, tier := range map[string]func(*Options[int]){
		"from L1": func(*Options[int]) {},
		"from L2": func(o *Options[int]) { o.LocalTTL = Off },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, w *world) {
				c := w.instance(t, aging, tier)
				require.Equal(t, 0, get(t, c, "k"))
				w.source.write("k")
				time.Sleep(time.Minute - 10*time.Millisecond)
				require.Equal(t, 0, get(t, c, "k"))
				synctest.Wait()
				require.EqualValues(t, 1, w.source.loads.Load(), "not due yet")

				time.Sleep(20 * time.Millisecond)
				require.Equal(t, 0, get(t, c, "k"), "at once, what is there")
				synctest.Wait()
				require.EqualValues(t, 2, w.source.loads.Load())
				require.Equal(t, 1, get(t, c, "k"))
				st := c.Stats()
				require.EqualValues(t, 1, st.Refreshes)
				require.Zero(t, st.RefreshErrors+st.RefreshSkipped+st.RefreshUnchanged+st.Stale)

				// It lives on as long as it is read: nobody waits for a load.
				for range 30 {
					soonAfter(time.Minute - time.Second)
					get(t, c, "k")
				}
				require.Equal(t, c.Stats().Loads, 1+c.Stats().Refreshes)
				require.Greater(t, c.Stats().RefreshUnchanged, uint64(10))
			})
		})
	}
}

func TestTimeWithoutRefreshAfterNothingIsRefreshed(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t, aging, func(o *Options[int]) { o.RefreshAfter = 0 })
		for range 9 {
			get(t, c, "k")
			soonAfter(time.Minute)
		}
		require.EqualValues(t, 1, w.source.loads.Load())
	})
}

// Nobody waits for a refresh, however long it takes.
func TestTimeReadersDoNotWaitForARefresh(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		f := []*Cache[int]{w.instance(t, aging), w.instance(t, aging, func(o *Options[int]) { o.LocalTTL = Off })}
		get(t, f[0], "k")
		w.source.write("k")
		time.Sleep(pastRefresh)
		read, letGo := w.source.holdNext()
		require.Equal(t, 0, get(t, f[0], "k"))
		wait(t, "the refresh", read)
		began := time.Now()
		for range 1000 {
			require.Equal(t, 0, get(t, f[0], "k"))
			require.Equal(t, 0, get(t, f[1], "k"), "also one who asks Redis")
		}
		require.Zero(t, time.Since(began))
		require.EqualValues(t, 2, w.source.loads.Load())
		letGo()
		synctest.Wait()
		require.Equal(t, 1, get(t, f[0], "k"))
		require.Equal(t, 1, get(t, f[1], "k"))
	})
}

// One instance in the fleet loads. The others find what it has stored when their own copies are due.
func TestTimeOneRefreshInTheFleet(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		f := []*Cache[int]{w.instance(t, aging), w.instance(t, aging), w.instance(t, aging)}
		settle()
		for _, c := range f {
			get(t, c, "k")
		}
		w.source.write("k")
		time.Sleep(pastRefresh)
		read, letGo := w.source.holdNext()
		require.Equal(t, 0, get(t, f[0], "k"))
		wait(t, "the refresh", read)
		require.Equal(t, 0, get(t, f[1], "k")) // due, and finds the lease held
		synctest.Wait()
		letGo()
		synctest.Wait()
		require.Equal(t, 0, get(t, f[2], "k")) // due, and finds a younger value
		synctest.Wait()
		require.Equal(t, 1, get(t, f[2], "k"))
		time.Sleep(2 * local.RefreshPause)
		require.Equal(t, 0, get(t, f[1], "k"))
		synctest.Wait()
		require.Equal(t, 1, get(t, f[1], "k"))
		require.EqualValues(t, 2, w.source.loads.Load())
		require.EqualValues(t, 2, f[0].Stats().Loads)
	})
}

// A refresh that finds the value unchanged extends it in Redis; other instances take its new age over without a load.
func TestTimeAnUnchangedValueIsExtended(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		f := []*Cache[int]{w.instance(t, aging), w.instance(t, aging)}
		settle()
		get(t, f[0], "k")
		get(t, f[1], "k")
		time.Sleep(9 * time.Minute)
		get(t, f[0], "k")
		synctest.Wait()
		require.EqualValues(t, 1, f[0].Stats().RefreshUnchanged)
		require.InDelta(t, 10*time.Minute, w.redis.TTL("tandem:{things}:k:k"), float64(time.Second))
		get(t, f[1], "k")
		synctest.Wait()
		reads := f[1].Stats().RemoteHits
		for range 8 { // past the first expiry
			soonAfter(5 * time.Second)
			require.Equal(t, 0, get(t, f[1], "k"))
		}
		time.Sleep(25 * time.Second)
		synctest.Wait()
		require.Equal(t, reads, f[1].Stats().RemoteHits, "not fetched again")
		require.Zero(t, f[1].Stats().Loads)
		require.EqualValues(t, 2, w.source.loads.Load())
	})
}

// C4: an invalidation while a refresh is under way keeps its result out of both tiers.
func TestTimeAnInvalidationDuringARefresh(t *testing.T) {
	t.Parallel()
	for name, write := range writes {
		for writer := range 2 {
			t.Run(fmt.Sprintf("%s by instance %d", name, writer), func(t *testing.T) {
				t.Parallel()
				bubble(t, func(t *testing.T, w *world) {
					f := []*Cache[int]{w.instance(t, aging), w.instance(t, aging)}
					settle()
					get(t, f[0], "k")
					get(t, f[1], "k")
					time.Sleep(pastRefresh)
					read, letGo := w.source.holdNext()
					require.Equal(t, 0, get(t, f[0], "k"))
					wait(t, "the refresh", read)
					require.NoError(t, write(f[writer], w.source))
					synctest.Wait()
					require.Equal(t, 1, get(t, f[writer], "k"), "own writes, while the refresh is under way")
					letGo()
					synctest.Wait()
					require.EqualValues(t, 1, f[0].Stats().Refused)
					for range 2 {
						require.Equal(t, 1, get(t, f[0], "k"))
						require.Equal(t, 1, get(t, f[1], "k"))
					}
				})
			})
		}
	}
}

var writes = map[string]func(*Cache[int], *source) error{
	"Invalidate": func(c *Cache[int], s *source) error {
		s.write("k")
		return c.Invalidate(context.Background(), "k")
	},
	"Set":           func(c *Cache[int], s *source) error { return c.Set(context.Background(), "k", s.write("k")) },
	"InvalidateAll": func(c *Cache[int], s *source) error { s.write("k"); return c.InvalidateAll(context.Background()) },
}

// The refreshed value is in the refresh's hands when the invalidation comes: its fill was first, L1 must not have it.
func TestTimeAnInvalidationAfterTheFillOfARefresh(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		f := []*Cache[int]{w.instance(t, aging), w.instance(t, aging)}
		settle()
		get(t, f[0], "k")
		time.Sleep(pastRefresh)
		var once sync.Once
		w.redis.Server().SetPreHook(func(_ *server.Peer, cmd string, args ...string) bool {
			if isScript(cmd, args, 2, 9) { // the fill: an invalidation of this instance's own is applied just before its reply
				once.Do(func() { f[0].evict("k") })
			}
			return false
		})
		require.Equal(t, 0, get(t, f[0], "k"))
		synctest.Wait()
		w.redis.Server().SetPreHook(nil)
		require.Nil(t, f[0].local.Get("k"))
	})
}

// C5: without Redis nobody refreshes, and a Get costs what it would without RefreshAfter.
func TestTimeARefreshWithoutRedis(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t, aging)
		get(t, c, "k")
		time.Sleep(pastRefresh)
		w.redis.SetError("LOADING Redis is loading the dataset in memory")
		w.source.write("k")
		require.Equal(t, 0, get(t, c, "k"), "due, and served for as long as it is proven")
		synctest.Wait()
		require.EqualValues(t, 1, w.source.loads.Load())
		require.Zero(t, c.Stats().RefreshErrors, "the source is not to blame")

		time.Sleep(DefaultMaxStaleness)
		require.Equal(t, 1, get(t, c, "k"), "past MaxStaleness it is loaded")
		w.redis.SetError("")
		settle()
		settle()
		get(t, c, "k") // what Redis has is due
		settle()
		require.Equal(t, 1, get(t, c, "k"), "with Redis it goes on")
	})
}

// A refresh that fails does not remove the value, and is not repeated by every read.
func TestTimeAFailedRefreshBacksOff(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(o *Options[int], broken *atomic.Bool){
		"error": func(o *Options[int], broken *atomic.Bool) {
			o.Load = failing(o.Load, broken, func() error { return errSource })
		},
		"panic": func(o *Options[int], broken *atomic.Bool) {
			o.Load = failing(o.Load, broken, func() error { panic("the source") })
		},
		"timeout": func(o *Options[int], broken *atomic.Bool) {
			o.LoadTimeout = 100 * time.Millisecond
			o.Load = failing(o.Load, broken, func() error { time.Sleep(time.Second); return errSource })
		},
		"not storable": func(o *Options[int], broken *atomic.Bool) {
			o.TTLFor = func(string, int) time.Duration {
				if broken.Load() {
					return 1
				}
				return 0
			}
		},
	} {
		for tier, localTTL := range map[string]time.Duration{"L1": 10 * time.Minute, "L2": Off} {
			t.Run(name+" "+tier, func(t *testing.T) {
				t.Parallel()
				bubble(t, func(t *testing.T, w *world) {
					var broken atomic.Bool
					c := w.instance(t, aging, func(o *Options[int]) { o.LocalTTL = localTTL; fail(o, &broken) })
					get(t, c, "k")
					w.source.write("k")
					broken.Store(true)
					time.Sleep(pastRefresh)
					for range 3 * 60 * 10 {
						require.Equal(t, 0, get(t, c, "k"))
						time.Sleep(100 * time.Millisecond)
					}
					st := c.Stats()
					require.Greater(t, st.RefreshErrors, uint64(3))
					require.Less(t, st.RefreshErrors, uint64(20), "in three minutes")
					broken.Store(false)
					for range 600 {
						get(t, c, "k")
						time.Sleep(100 * time.Millisecond)
					}
					require.Equal(t, 1, get(t, c, "k"), "and then it is")
				})
			})
		}
	}
}

func failing(load LoadFunc[int], broken *atomic.Bool, with func() error) LoadFunc[int] {
	return func(ctx context.Context, key string) (int, error) {
		if broken.Load() {
			return 0, with()
		}
		return load(ctx, key)
	}
}

// The lease of a refresh that failed stays until it expires: the fleet as a whole tries no more often.
func TestTimeAFailedRefreshKeepsOthersFromTrying(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		var f []*Cache[int]
		for range 8 {
			f = append(f, w.instance(t, aging))
		}
		settle()
		for _, c := range f {
			get(t, c, "k")
		}
		time.Sleep(pastRefresh)
		w.source.err = errSource
		began := w.source.loads.Load()
		for _, c := range f {
			require.Equal(t, 0, get(t, c, "k"))
			synctest.Wait()
		}
		require.EqualValues(t, 1, w.source.loads.Load()-began)
		// An entry that ends before the lease would is not held up by it.
		time.Sleep(9*time.Minute - pastRefresh + time.Minute - time.Second)
		get(t, f[0], "k")
		synctest.Wait()
		w.source.err = nil
		time.Sleep(time.Second)
		start := time.Now()
		require.Equal(t, 0, get(t, f[1], "k"))
		require.Zero(t, time.Since(start))
	})
}

func TestTimeRefreshesAreBounded(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		hold := make(chan struct{})
		var loads, underway, most atomic.Int64
		c := w.instance(t, aging, with(func(ctx context.Context, key string) (int, error) {
			if n := loads.Add(1); n > 100 {
				now := underway.Add(1)
				for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
				}
				<-hold
				underway.Add(-1)
			}
			return 0, nil
		}))
		read := func() {
			for i := range 100 {
				get(t, c, keyName(i))
			}
			synctest.Wait()
		}
		read()
		time.Sleep(pastRefresh)
		read()
		require.EqualValues(t, maxRefreshes, underway.Load())
		require.EqualValues(t, 100-maxRefreshes, c.Stats().RefreshSkipped)
		close(hold)
		synctest.Wait()
		for range 10 {
			time.Sleep(2 * local.RefreshPause)
			read()
		}
		require.EqualValues(t, 200, loads.Load(), "what was put off is done when it is read again")
		require.EqualValues(t, maxRefreshes, most.Load())
	})
}

// "Not found" is an answer, and replaces the value, also where it is not stored.
func TestTimeARefreshThatFindsNothing(t *testing.T) {
	t.Parallel()
	for name, ttl := range map[string]time.Duration{"cached": 0, "not cached": Off} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, w *world) {
				f := []*Cache[int]{w.instance(t, aging, notFoundTTL(ttl)), w.instance(t, aging, notFoundTTL(ttl))}
				get(t, f[0], "k")
				time.Sleep(pastRefresh)
				w.source.missing["k"] = true
				get(t, f[0], "k")
				synctest.Wait()
				for _, c := range f {
					_, err := c.Get(t.Context(), "k")
					require.ErrorIs(t, err, ErrNotFound)
				}
				require.Zero(t, f[0].Stats().RefreshErrors)
				if ttl == 0 {
					require.EqualValues(t, 2, w.source.loads.Load())
				}
			})
		})
	}
}

func notFoundTTL(d time.Duration) func(*Options[int]) {
	return func(o *Options[int]) { o.NotFoundTTL = d }
}

// A cache without a loader refreshes what a GetWith has loaded only for a GetWith.
func TestTimeARefreshNeedsALoader(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t, aging, with(nil))
		with := GetOptions[int]{Load: w.source.load, TTL: 20 * time.Minute}
		_, err := c.GetWith(t.Context(), "k", with)
		require.NoError(t, err)
		time.Sleep(pastRefresh)
		w.source.write("k")
		for range 3 {
			require.Equal(t, 0, get(t, c, "k"))
			soonAfter(2 * time.Second)
		}
		require.EqualValues(t, 1, w.source.loads.Load())
		_, err = c.GetWith(t.Context(), "k", with)
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, 1, get(t, c, "k"))
		require.Equal(t, 20*time.Minute, w.redis.TTL("tandem:{things}:k:k"))
	})
}

// A value that Redis has lost is loaded before the copy in L1 ends.
func TestTimeARefreshOfWhatRedisHasLost(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t, aging)
		get(t, c, "k")
		w.redis.Del("tandem:{things}:k:k")
		time.Sleep(pastRefresh)
		w.source.write("k")
		require.Equal(t, 0, get(t, c, "k"))
		synctest.Wait()
		require.Equal(t, 1, get(t, c, "k"))
		require.True(t, w.redis.Exists("tandem:{things}:k:k"))
	})
}

// What takes long to load is refreshed earlier, never before half of the age, and at different times by different readers.
// Close ends a refresh, and does not wait for a loader that ignores its context.
func TestTimeCloseDuringARefresh(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t, aging)
		get(t, c, "k")
		time.Sleep(pastRefresh)
		read, letGo := w.source.holdNext()
		get(t, c, "k")
		wait(t, "the refresh", read)
		began := time.Now()
		require.NoError(t, c.Close())
		require.Less(t, time.Since(began), time.Second)
		letGo()
	})
}
