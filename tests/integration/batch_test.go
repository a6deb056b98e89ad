package integration

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered"
)

// bulk asks a source for many keys at once, and counts the loads of each.
type bulk struct {
	*source
	mu    sync.Mutex
	count map[string]int
}

func newBulk(delay time.Duration) *bulk {
	return &bulk{source: newSource(delay), count: map[string]int{}}
}

func (b *bulk) many(o *tiered.Options[Value]) {
	o.Load = nil
	o.LoadMany = func(ctx context.Context, keys []string) (map[string]Value, error) {
		out := make(map[string]Value, len(keys))
		b.mu.Lock()
		for _, key := range keys {
			b.count[key]++
			out[key] = b.read(key)
		}
		b.mu.Unlock()
		_, err := b.load(ctx, "all") // takes its time, or is held
		return out, err
	}
}

func (b *bulk) most() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	most := 0
	for _, n := range b.count {
		most = max(most, n)
	}
	return most
}

// loaded returns the keys that have been asked for since reset.
func (b *bulk) loaded() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.count))
}

func (b *bulk) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.count)
}

func batchOf(prefix string, n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprint(prefix, i)
	}
	return keys
}

func getMany(t testing.TB, c *tiered.Cache[Value], keys ...string) map[string]int64 {
	t.Helper()
	got, err := c.GetMany(t.Context(), keys)
	require.NoError(t, err)
	versions := map[string]int64{}
	for key, v := range got {
		if want := fmt.Sprintf("%s is at %d", key, v.Version); v.Key != key || string(v.Body) != want {
			require.FailNowf(t, "wrong value", "%s: %+v", key, v)
		}
		versions[key] = v.Version
	}
	require.Len(t, versions, len(keys))
	return versions
}

var calls = regexp.MustCompile(`cmdstat_(\w+):calls=(\d+)`)

// commands returns how often Redis has executed each command.
func commands(t testing.TB, r *rig) map[string]int {
	t.Helper()
	out := map[string]int{}
	r.everywhere(t, func(ctx context.Context, admin *redis.Client) error {
		info, err := admin.Info(ctx, "commandstats").Result()
		for _, m := range calls.FindAllStringSubmatch(info, -1) {
			n, err := strconv.Atoi(m[2])
			require.NoError(t, err)
			out[m[1]] += n
		}
		return err
	})
	return out
}

// Batches and single Gets of four instances ask for overlapping keys: each is loaded once.
func TestOverlappingBatchesLoadEachKeyOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, r *rig) {
		b := newBulk(20 * time.Millisecond)
		f := fleet(t, 4, r, b.source, b.many, calm, func(o *tiered.Options[Value]) {
			o.RedisTimeout, o.LeaseWait = patience, patience // Redis answers, however busy the machine is
		})
		walls := make([]time.Duration, 0, 20)
		for round := range 20 {
			keys := batchOf(fmt.Sprint("round ", round, ":"), 400)
			var failed atomic.Int64
			var wg sync.WaitGroup
			start := make(chan struct{})
			for i := range 40 {
				wg.Go(func() {
					<-start
					if i%4 == 3 {
						if v, err := f[i%4].Get(t.Context(), keys[i]); err != nil || v.Key != keys[i] {
							failed.Add(1)
						}
						return
					}
					mine := make([]string, 100)
					for j := range mine {
						mine[j] = keys[rand.IntN(len(keys))]
					}
					got, err := f[i%4].GetMany(t.Context(), mine)
					for _, key := range mine {
						if err != nil || got[key].Key != key {
							failed.Add(1)
						}
					}
				})
			}
			began := time.Now()
			close(start)
			wg.Wait()
			walls = append(walls, time.Since(began))
			require.Zero(t, failed.Load())
		}
		t.Logf("20 rounds of 30 batches of 100 of 400 keys and 10 single Gets on 4 instances: at most %d loads of a key, wall p50 %v worst %v for a source of %v",
			b.most(), quantile(walls, 0.5), quantile(walls, 1), b.delay)
		require.Equal(t, 1, b.most())
	})
}

// A batch that two instances read and one writes, on a real server: what it costs there, and what an invalidation in the middle
// of the bulk load does.
func TestABatchOnARealServer(t *testing.T) {
	onBoth(t, func(t *testing.T, r *rig) {
		b := newBulk(0)
		f := fleet(t, 2, r, b.source, b.many, calm)
		keys := batchOf("k", 100)
		for _, v := range getMany(t, f[0], keys...) {
			require.Zero(t, v)
		}
		eventually(t, "nothing of Redis is in doubt", func() bool {
			before := commands(t, r)["hget"]
			getMany(t, f[1], keys...)
			return commands(t, r)["hget"] == before // all are in L1
		})
		require.Equal(t, 1, b.most())

		more := batchOf("more", 100)
		read, letGo := b.holdNext()
		defer letGo()
		done := make(chan int64, 1)
		go func() {
			got, err := f[0].GetMany(t.Context(), more)
			if err != nil || len(got) != len(more) {
				t.Errorf("%d values, %v", len(got), err)
			}
			done <- got["more7"].Version
		}()
		wait(t, "the bulk load", read)
		b.write("more7")
		before := []uint64{f[0].Stats().Received, f[1].Stats().Received}
		require.NoError(t, f[1].Invalidate(t.Context(), "more7"))
		eventually(t, "both hear it", func() bool {
			return f[0].Stats().Received > before[0] && f[1].Stats().Received > before[1]
		})
		letGo()
		require.Zero(t, wait(t, "the batch", done), "who asked before gets what it asked for")
		require.EqualValues(t, 1, f[0].Stats().Refused)
		for _, c := range f {
			for key, v := range getMany(t, c, more...) {
				require.Equal(t, key == "more7", v == 1, key)
			}
		}

		values := map[string]Value{}
		for _, key := range keys {
			values[key] = b.write(key)
		}
		received := f[1].Stats().Received
		require.NoError(t, f[0].SetMany(t.Context(), values))
		eventually(t, "the other has heard", func() bool { return f[1].Stats().Received == received+100 })
		for _, c := range f {
			for key, v := range getMany(t, c, keys...) {
				require.EqualValues(t, 1, v, key)
			}
		}
		require.Equal(t, 2, b.most(), "of more7 alone")
	})
}

// Longer lists go in parts.
func TestABatchOfManyParts(t *testing.T) {
	onBoth(t, func(t *testing.T, r *rig) {
		b := newBulk(0)
		f := fleet(t, 2, r, b.source, b.many, calm, func(o *tiered.Options[Value]) { o.RedisTimeout = patience })
		values := map[string]Value{}
		keys := batchOf("k", 5500)
		for _, key := range keys[:2500] {
			values[key] = b.write(key)
		}
		require.NoError(t, f[0].SetMany(t.Context(), values))
		for _, c := range f {
			for key, v := range getMany(t, c, keys...) {
				require.Equal(t, b.read(key).Version, v, key)
			}
		}
		require.Equal(t, 1, b.most())
		require.Len(t, b.count, 3000, "the others are in Redis")
	})
}
