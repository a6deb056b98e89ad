package tiered

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/require"
)

// agedBatch is n instances whose copies of keys are due for a refresh by LoadMany, with the source at version 1.
func agedBatch(t *testing.T, w *world, b *bulk, n int, keys []string, change ...func(*Options[int])) []*Cache[int] {
	t.Helper()
	f := make([]*Cache[int], n)
	for i := range f {
		f[i] = w.instance(t, append([]func(*Options[int]){aging, b.many}, change...)...)
	}
	settle()
	for _, c := range f {
		for part := range slices.Chunk(keys, 4) { // the connections of a bubble have little room
			require.Len(t, getMany(t, c, part...), len(part))
		}
	}
	for _, key := range keys {
		w.source.write(key)
	}
	time.Sleep(pastRefresh)
	return f
}

// Each key has one refresher in the fleet: what another instance is at is left out, and what it has refreshed is taken.
func TestTimeABatchRefreshesOnceInTheFleet(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		b := bulkWorld(w)
		f := agedBatch(t, w, b, 3, []string{"a", "b"})
		read, letGo := b.holdNextMany()
		require.Equal(t, 0, get(t, f[0], "a"))
		wait(t, "the refresh", read)
		require.Equal(t, map[string]int{"a": 0, "b": 0}, getMany(t, f[1], "a", "b"))
		synctest.Wait()
		require.Equal(t, [][]string{{"a", "b"}, {"a"}, {"b"}}, b.calls)
		require.Equal(t, map[string]int{"a": 0, "b": 1}, getMany(t, f[1], "a", "b"), "b does not wait for a")
		letGo()
		synctest.Wait()
		require.Equal(t, map[string]int{"a": 0, "b": 0}, getMany(t, f[2], "a", "b"))
		synctest.Wait()
		require.Equal(t, map[string]int{"a": 1, "b": 1}, getMany(t, f[2], "a", "b"))
		require.Len(t, b.calls, 3)
	})
}

// C4: an invalidation of one key while a bulk refresh is under way keeps that key's result out of both tiers, and no other's.
func TestTimeAnInvalidationDuringARefreshOfABatch(t *testing.T) {
	t.Parallel()
	for name, write := range writes {
		for writer := range 2 {
			t.Run(fmt.Sprintf("%s by instance %d", name, writer), func(t *testing.T) {
				t.Parallel()
				bubble(t, func(t *testing.T, w *world) {
					b := bulkWorld(w)
					f := agedBatch(t, w, b, 2, []string{"k", "other"})
					read, letGo := b.holdNextMany()
					getMany(t, f[0], "k", "other")
					wait(t, "the refresh", read)
					require.NoError(t, write(f[writer], w.source))
					synctest.Wait()
					require.Equal(t, 2, get(t, f[writer], "k"), "own writes, while the refresh is under way")
					letGo()
					synctest.Wait()
					refused := map[bool]uint64{true: 2, false: 1}[name == "InvalidateAll"]
					require.Equal(t, refused, f[0].Stats().Refused)
					for _, c := range f {
						require.Equal(t, 2, get(t, c, "k"))
					}
					require.Equal(t, map[string]int{"k": 2, "other": 1}, getMany(t, f[0], "k", "other"))
				})
			})
		}
	}
}

// What a bulk refresh brings is judged key by key: not changed, changed, and not there any more.
func TestTimeWhatARefreshOfABatchBrings(t *testing.T) {
	t.Parallel()
	for name, ttl := range map[string]time.Duration{"cached": 0, "not cached": Off} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, w *world) {
				b := bulkWorld(w)
				c := agedBatch(t, w, b, 1, []string{"same", "new", "gone"}, notFoundTTL(ttl))[0]
				w.source.missing["gone"] = true
				w.source.versions["same"] = 0
				require.Len(t, getMany(t, c, "same", "new", "gone"), 3)
				synctest.Wait()
				require.Equal(t, [][]string{{"gone", "new", "same"}, {"gone", "new", "same"}}, b.calls)
				require.Equal(t, map[string]int{"same": 0, "new": 1}, getMany(t, c, "same", "new", "gone"))
				st := c.Stats()
				require.EqualValues(t, 3, st.Refreshes)
				require.EqualValues(t, 1, st.RefreshUnchanged)
				require.Zero(t, st.RefreshErrors)
				require.InDelta(t, 10*time.Minute, w.redis.TTL("tandem:{things}:k:same"), float64(time.Second), "extended")
			})
		})
	}
}

// A key whose invalidation Redis has not confirmed is left out: what L2 has of it may be what should be gone.
func TestTimeABatchDoesNotRefreshWhatIsPending(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		b := bulkWorld(w)
		c := agedBatch(t, w, b, 1, []string{"a", "b"})[0]
		w.redis.Server().SetPreHook(func(peer *server.Peer, cmd string, args ...string) bool {
			if isInvalidate(cmd, args) {
				peer.WriteError("LOADING Redis is loading the dataset in memory")
				return true
			}
			return false
		})
		require.ErrorIs(t, c.Invalidate(t.Context(), "a"), ErrPending)
		c.refreshBatch(t.Context(), []string{"a", "b"}) // of a GetMany that has read before the invalidation
		synctest.Wait()
		w.redis.Server().SetPreHook(nil)
		require.Equal(t, [][]string{{"a", "b"}, {"b"}}, b.calls)
		settle() // it is repeated
		require.Equal(t, map[string]int{"a": 1, "b": 1}, getMany(t, c, "a", "b"))
	})
}

// A bulk refresh that fails leaves all its values as they are, and is not repeated by every read, here or elsewhere.
func TestTimeAFailedRefreshOfABatch(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func() error{
		"error": func() error { return errSource },
		"panic": func() error { panic("the source") },
		"timeout": func() error {
			time.Sleep(time.Second)
			return errSource
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, w *world) {
				b := bulkWorld(w)
				var broken atomic.Bool
				var failures atomic.Int64
				f := agedBatch(t, w, b, 2, []string{"a", "b"}, func(o *Options[int]) {
					o.LoadTimeout = 100 * time.Millisecond
					load := o.LoadMany
					o.LoadMany = func(ctx context.Context, keys []string) (map[string]int, error) {
						if broken.Load() {
							failures.Add(1)
							return nil, fail()
						}
						return load(ctx, keys)
					}
				})
				broken.Store(true)
				for range 60 * 10 {
					for _, c := range f {
						require.Equal(t, map[string]int{"a": 0, "b": 0}, getMany(t, c, "a", "b"))
					}
					time.Sleep(100 * time.Millisecond)
				}
				require.Greater(t, failures.Load(), int64(3))
				require.Less(t, failures.Load(), int64(40), "in a minute, of two instances and two keys")
				require.Equal(t, f[0].Stats().Refreshes, f[0].Stats().RefreshErrors)
				broken.Store(false)
				for range 60 * 10 {
					getMany(t, f[0], "a", "b")
					time.Sleep(100 * time.Millisecond)
				}
				require.Equal(t, map[string]int{"a": 1, "b": 1}, getMany(t, f[0], "a", "b"))
			})
		})
	}
}

// A batch takes one worker, however many its keys, and gives it back.
func TestTimeRefreshesOfBatchesAreBounded(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		const batches, size = maxRefreshes + 2, 2
		keys := make([]string, batches*size)
		for i := range keys {
			keys[i] = keyName(i)
		}
		b := bulkWorld(w)
		c := agedBatch(t, w, b, 1, keys)[0]
		began := len(b.calls)
		hold := make(chan struct{})
		letGo := sync.OnceFunc(func() { close(hold) })
		defer letGo()
		var underway, most atomic.Int64
		stop := func([]string) {
			most.Store(max(most.Load(), underway.Add(1)))
			<-hold
			underway.Add(-1)
		}
		b.stop.Store(&stop)
		for i := range batches {
			getMany(t, c, keys[i*size:(i+1)*size]...)
			synctest.Wait()
		}
		require.EqualValues(t, maxRefreshes, underway.Load())
		require.EqualValues(t, 2*size, c.Stats().RefreshSkipped)
		letGo()
		synctest.Wait()
		time.Sleep(2 * time.Second)
		getMany(t, c, keys...)
		synctest.Wait()
		require.Len(t, b.calls, began+maxRefreshes+1, "what was put off is done when it is read again, in one call")
		require.Len(t, b.calls[began+maxRefreshes], 2*size)
		require.EqualValues(t, maxRefreshes, most.Load())
		for key, n := range b.loaded() {
			require.Equal(t, 2, n, key)
		}
	})
}
