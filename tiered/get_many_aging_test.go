package tiered

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote"
)

// bulkWorld gives a world's source a loader of many, which uses w.source's versions.
func bulkWorld(w *world) *bulk { return &bulk{source: w.source} }

// loaders are the two ways in which a batch is loaded.
func loaders(b *bulk) map[string]func(*Options[int]) {
	return map[string]func(*Options[int]){"LoadMany": b.many, "Load": func(*Options[int]) {}}
}

var loaderNames = []string{"LoadMany", "Load"}

// A batch gets what is due at once, from either tier, and has it refreshed as a Get does.
func TestTimeABatchRefreshesWhatIsDue(t *testing.T) {
	t.Parallel()
	for name, tier := range map[string]func(*Options[int]){
		"L1": func(*Options[int]) {}, "L2": func(o *Options[int]) { o.LocalTTL = Off },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, loader := range loaderNames {
				bubble(t, func(t *testing.T, w *world) {
					b := bulkWorld(w)
					c := w.instance(t, aging, tier, loaders(b)[loader])
					settle()
					require.Equal(t, map[string]int{"a": 0, "b": 0}, getMany(t, c, "a", "b"))
					soonAfter(time.Minute / 2)
					getMany(t, c, "young")
					w.source.write("a")
					w.source.write("b")
					soonAfter(pastRefresh - time.Minute/2)
					require.Equal(t, map[string]int{"a": 0, "b": 0, "young": 0}, getMany(t, c, "a", "b", "young", "a"), "at once, what is there")
					synctest.Wait()
					require.Equal(t, map[string]int{"a": 1, "b": 1}, getMany(t, c, "a", "b"))
					require.EqualValues(t, 2, c.Stats().Refreshes)
					if loader == "LoadMany" {
						require.Equal(t, [][]string{{"a", "b"}, {"young"}, {"a", "b"}}, b.calls)
						require.EqualValues(t, 3, c.Stats().Loads)
					} else {
						require.EqualValues(t, 5, c.Stats().Loads)
					}
				})
			}
		})
	}
}

// How long a bulk load took counts for each of its keys, and what is stored lingers.
func TestTimeWhatABatchStores(t *testing.T) {
	t.Parallel()
	for _, name := range loaderNames {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, w *world) {
				b := bulkWorld(w)
				slow := func([]string) { time.Sleep(2 * time.Second) }
				b.stop.Store(&slow)
				c := w.instance(t, lingering, func(o *Options[int]) { o.Load = slowly(o.Load, 2*time.Second) }, loaders(b)[name])
				getMany(t, c, "a", "b")
				require.NoError(t, c.SetMany(t.Context(), map[string]int{"set": 7}))
				for key, took := range map[string]time.Duration{"a": 2 * time.Second, "b": 2 * time.Second, "set": 0} {
					raw, err := readsOf(c, key).Get(t.Context(), key)
					require.NoError(t, err)
					e, err := remote.Decode(raw, key)
					require.NoError(t, err)
					require.Equal(t, took, e.Load, key)
					left := w.redis.TTL("tandem:{things}:k:" + key)
					require.InDelta(t, time.Minute+lingerTime, left, float64(3*time.Second), key)
				}
			})
		})
	}
}

// What is loaded in a batch is due when it would be after a Get.
func TestTimeABatchMakesWhatItLoadsDue(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t, aging, bulkWorld(w).many)
		settle()
		getMany(t, c, "a")
		time.Sleep(pastRefresh)
		_, due := c.local.Lookup("a")
		require.True(t, due)
	})
}

// batchAge is a world whose batch of a and b has expired, and whose source fails from then on.
func batchAge(t *testing.T, w *world, b *bulk, n int, change ...func(*Options[int])) []*Cache[int] {
	t.Helper()
	f := make([]*Cache[int], n)
	for i := range f {
		f[i] = w.instance(t, append([]func(*Options[int]){lingering, func(o *Options[int]) { o.LeaseWait = time.Minute }}, change...)...)
	}
	settle()
	getMany(t, f[0], "a", "b")
	time.Sleep(pastTTL)
	b.setErr(errSource)
	return f
}

// Where a bulk load fails, what has expired stands in for its keys, one by one.
func TestTimeABatchServesWhatHasExpired(t *testing.T) {
	t.Parallel()
	for _, loader := range loaderNames {
		for name, change := range map[string]func(*Options[int]){
			"both tiers": func(*Options[int]) {}, "L2": func(o *Options[int]) { o.LocalTTL = Off },
			"without leases": func(o *Options[int]) { o.LocalTTL, o.NoLease = Off, true },
		} {
			t.Run(loader+" "+name, func(t *testing.T) {
				t.Parallel()
				bubble(t, func(t *testing.T, w *world) {
					b := bulkWorld(w)
					c := batchAge(t, w, b, 1, loaders(b)[loader], change)[0]
					got, err := c.GetMany(t.Context(), []string{"a", "b", "never there"})
					require.Equal(t, map[string]int{"a": 0, "b": 0}, got)
					var failed *KeysError
					require.ErrorAs(t, err, &failed)
					require.ErrorIs(t, err, errSource)
					require.Equal(t, []string{"never there"}, failed.Keys)
					require.EqualValues(t, 2, c.Stats().Stale)

					time.Sleep(lingerTime)
					got, err = c.GetMany(t.Context(), []string{"a", "b"})
					require.Empty(t, got, "not for ever")
					require.ErrorIs(t, err, errSource)

					b.setErr(nil)
					require.Len(t, getMany(t, c, "a", "b"), 2)
					require.EqualValues(t, 2, c.Stats().Stale)
				})
			})
		}
	}
}

// An invalidation of one key comes while the bulk load is under way, which then fails.
func TestTimeABatchNeverServesWhatWasInvalidated(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(*Cache[int]) error{
		"Invalidate":    func(c *Cache[int]) error { return c.Invalidate(context.Background(), "a") },
		"SetMany":       func(c *Cache[int]) error { return c.SetMany(context.Background(), map[string]int{"a": 5}) },
		"InvalidateAll": func(c *Cache[int]) error { return c.InvalidateAll(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, w *world) {
				b := bulkWorld(w)
				f := batchAge(t, w, b, 2, b.many)
				read, letGo := b.holdNextMany()
				type answer struct {
					got map[string]int
					err error
				}
				answered := make(chan answer, 1)
				go func() {
					got, err := f[0].GetMany(t.Context(), []string{"a", "b"})
					answered <- answer{got, err}
				}()
				wait(t, "the load", read)
				require.NoError(t, write(f[1]))
				synctest.Wait()
				letGo()
				a := wait(t, "the batch", answered)
				require.NotContains(t, a.got, "a")
				require.ErrorIs(t, a.err, errSource)
				require.Equal(t, name != "InvalidateAll", len(a.got) == 1, "b, which was not invalidated by name")
			})
		})
	}
}

// "Not found" ends what could stand in, also where it is not stored.
func TestTimeNotFoundInABatchReplacesAStandIn(t *testing.T) {
	t.Parallel()
	for _, loader := range loaderNames {
		for name, ttl := range map[string]time.Duration{"cached": 0, "not cached": Off} {
			t.Run(loader+" "+name, func(t *testing.T) {
				t.Parallel()
				bubble(t, func(t *testing.T, w *world) {
					b := bulkWorld(w)
					c := batchAge(t, w, b, 1, loaders(b)[loader], notFoundTTL(ttl))[0]
					b.setErr(nil)
					w.source.missing["a"] = true
					require.Equal(t, map[string]int{"b": 0}, getMany(t, c, "a", "b"))
					soonAfter(2 * DefaultNotFoundTTL)
					b.setErr(errSource)
					got, err := c.GetMany(t.Context(), []string{"a"})
					require.Empty(t, got)
					require.ErrorIs(t, err, errSource)
				})
			})
		}
	}
}

// C5: without Redis what has expired stands in for a batch as long as L1 is proven.
func TestTimeABatchWithoutRedis(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		b := bulkWorld(w)
		c := batchAge(t, w, b, 1, b.many)[0]
		w.redis.SetError("LOADING Redis is loading the dataset in memory")
		require.Len(t, getMany(t, c, "a", "b"), 2)
		time.Sleep(DefaultMaxStaleness)
		got, err := c.GetMany(t.Context(), []string{"a", "b"})
		require.Empty(t, got)
		require.ErrorIs(t, err, errSource)
		w.redis.SetError("")
		soonAfter(2 * DefaultMaxStaleness)
		require.Len(t, getMany(t, c, "a", "b"), 2)
		require.EqualValues(t, 4, c.Stats().Stale)
	})
}

// A bulk load that takes long: those keys that have something are answered with it, and the rest is waited for. What has come
// by then is as new as it is.
func TestTimeABatchWithASoftTimeout(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		b := bulkWorld(w)
		c := batchAge(t, w, b, 1, softly, b.many)[0]
		b.setErr(nil)
		w.source.write("a")
		slow := func([]string) { time.Sleep(time.Second) }
		b.stop.Store(&slow)

		began := time.Now()
		require.Equal(t, map[string]int{"a": 0, "b": 0}, getMany(t, c, "a", "b"))
		require.Equal(t, 100*time.Millisecond, time.Since(began))
		stale := false
		v, err := c.GetWith(t.Context(), "a", GetOptions[int]{Stale: &stale})
		require.NoError(t, err)
		require.Zero(t, v)
		require.True(t, stale, "a Get shares the batch's load, and what stands in for it")
		require.Equal(t, 100*time.Millisecond, time.Since(began))
		soonAfter(time.Second)
		require.Equal(t, map[string]int{"a": 1, "b": 0}, getMany(t, c, "a", "b"))
		require.EqualValues(t, 3, c.Stats().Stale)

		time.Sleep(pastTTL)
		w.source.write("a")
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		got, err := c.GetMany(ctx, []string{"never there", "a"})
		require.Equal(t, map[string]int{"a": 1}, got, "it was there when the caller left")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		soonAfter(time.Second)

		time.Sleep(pastTTL)
		w.source.write("a")
		require.Equal(t, 3, getMany(t, c, "new", "a")["a"], "it has come while the other was waited for")
	})
}

// Those of a goroutine's later turns wait too.
func TestEvery(t *testing.T) {
	t.Parallel()
	parts := [][]int{{1, 2}, {3}, {4}, {5}, {6}, {7, 8}}
	require.Equal(t, []int{1, 2, 6}, every(parts, 0))
	require.Equal(t, []int{3, 7, 8}, every(parts, 1))
	require.Equal(t, []int{5}, every(parts, 3))
}

// A stand-in that was there when the load failed is judged again by a batch that comes to it later.
func TestABatchJudgesWhatItWaitedPast(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	c := instance(t, r, s)
	f := &flight[int]{key: "k", err: errSource, done: make(chan struct{})}
	f.hard = standIn[int]{val: 7, ticket: ticketOf(c, "k"), ok: true}
	close(f.done)
	v, err := c.await(t.Context(), f, false, nil)
	require.NoError(t, err)
	require.Equal(t, 7, v)
	_, err = c.await(t.Context(), f, true, nil)
	require.ErrorIs(t, err, errSource, "who asks for the source's")
	c.evict("k")
	_, err = c.await(t.Context(), f, false, nil)
	require.ErrorIs(t, err, errSource)
}
