package faults

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered"
)

const batchKeys = 300

// bulk makes a source one that is asked for many keys at once, and counts how often.
type bulk struct {
	*source
	calls atomic.Int64
}

func (b *bulk) many(o *tiered.Options[value]) {
	o.Load = nil
	o.LoadMany = func(ctx context.Context, keys []string) (map[string]value, error) {
		b.calls.Add(1)
		var mu sync.Mutex
		var wg sync.WaitGroup
		out := make(map[string]value, len(keys))
		for _, key := range keys {
			wg.Go(func() {
				v, err := b.load(ctx, key)
				if err != nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				out[key] = v
			})
		}
		wg.Wait()
		return out, ctx.Err()
	}
}

func batchOf(prefix string) []string {
	keys := make([]string, batchKeys)
	for i := range keys {
		keys[i] = fmt.Sprint(prefix, i)
	}
	return keys
}

// getBatch returns the versions that c has of keys, and how long they took.
func getBatch(t *testing.T, c *cache, keys []string) (map[string]int64, time.Duration) {
	t.Helper()
	began := time.Now()
	got, err := c.GetMany(context.Background(), keys)
	took := time.Since(began)
	require.NoError(t, err)
	require.Len(t, got, len(keys))
	versions := make(map[string]int64, len(got))
	for key, v := range got {
		require.True(t, v.of(key), "%s: %+v", key, v)
		versions[key] = v.Version
	}
	return versions, took
}

// shared reads a batch of c, which loads it in one call, and then of other, which has it from Redis, unless a busy machine has
// kept one of them from Redis for a RedisTimeout: then with other keys.
func (b *bulk) shared(t *testing.T, c, other *cache, prefix string) (keys []string) {
	t.Helper()
	try := 0
	eventually(t, "Redis keeps them", func() bool {
		keys = batchOf(fmt.Sprint(prefix, try, ":"))
		try++
		calls := b.calls.Load()
		getBatch(t, c, keys)
		require.EqualValues(t, 1, b.calls.Load()-calls)
		getBatch(t, other, keys)
		return b.calls.Load() == calls+1
	})
	return keys
}

// C5 and C6 for batches: one costs its load and one RedisTimeout for all its keys together, and nothing of Redis once the
// outage is known; what a SetMany could not write is loaded, and repeated when Redis is back.
func TestBatchesWhenRedisGoesAway(t *testing.T) {
	for name, goAway := range awayFrom {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			srv, b := startRedis(t), &bulk{source: newSource(loadTime)}
			c := ready(t, srv.Addr(), b.source, b.many)
			other := ready(t, srv.Addr(), b.source, b.many)
			warm := b.shared(t, c, other, "warm")
			require.NoError(t, goAway(srv))

			_, first := getBatch(t, c, batchOf("first:"))
			require.Less(t, first, loadTime+tiered.DefaultRedisTimeout+slack)
			values := make(map[string]value, batchKeys)
			for _, key := range warm {
				values[key] = newValue(key, b.write(key))
			}
			began := time.Now()
			err := c.SetMany(context.Background(), values)
			set := time.Since(began)
			require.ErrorIs(t, err, tiered.ErrPending)
			require.Less(t, set, tiered.DefaultRedisTimeout+slack)
			var failed *tiered.KeysError
			require.ErrorAs(t, err, &failed)

			eventually(t, "the outage is known", func() bool { return !c.Health().RemoteTrusted && c.Health().RedisError != nil })
			loads := b.loads.Load()
			_, second := getBatch(t, c, batchOf("second:"))
			require.Less(t, second, loadTime+slack)
			require.EqualValues(t, batchKeys, b.loads.Load()-loads, "one load each")
			versions, _ := getBatch(t, c, warm)
			for key, v := range versions {
				require.EqualValues(t, 1, v, "C2: %s", key)
			}

			back := srv.Restart
			if name == "blackholed" {
				back = srv.Resume
			}
			require.NoError(t, back())
			trusted(t, c, other)
			eventually(t, "the other instance has the new versions", func() bool {
				versions, _ := getBatch(t, other, warm)
				for _, v := range versions {
					if v != 1 {
						return false
					}
				}
				return true
			})
			b.shared(t, c, other, "late")
			t.Logf("%d cold keys, load %v: first %v, once it is known %v; SetMany %v", batchKeys, loadTime, round(first), round(second), round(set))
		})
	}
}

// C5 where every answer is late: the trips of one batch have one budget, however many there are.
func TestBatchesOfASlowRedis(t *testing.T) {
	srv, b := startRedis(t), &bulk{source: newSource(loadTime)}
	p := newProxy(t, srv.Addr())
	slow := ready(t, p.addr(), b.source, b.many)
	getBatch(t, slow, batchOf("warm"))
	p.set(rule{delay: 100 * time.Millisecond}, control, data, bus)
	var worst time.Duration
	for i := range 5 {
		_, took := getBatch(t, slow, batchOf(fmt.Sprint("k", i, ":")))
		worst = max(worst, took)
	}
	require.Less(t, worst, loadTime+tiered.DefaultRedisTimeout+slack)
	require.EqualValues(t, 6*batchKeys, b.loads.Load(), "one load each")
	t.Logf("answers 100 ms late: worst of 5 batches of %d cold keys %v", batchKeys, round(worst))
}
