package tiered

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote"
)

// A batch of more parts than are under way at once, all held in their loads: who asks for a key of a part whose turn has not come
// does not wait for it.
func TestWhoAsksBeforeTheTurnOfAPart(t *testing.T) {
	t.Parallel()
	ask := map[string]func(context.Context, *Cache[int], string) (int, error){
		"Get":     func(ctx context.Context, c *Cache[int], key string) (int, error) { return c.Get(ctx, key) },
		"Refresh": func(ctx context.Context, c *Cache[int], key string) (int, error) { return c.Refresh(ctx, key) },
		"GetMany": func(ctx context.Context, c *Cache[int], key string) (int, error) {
			got, err := c.GetMany(ctx, []string{key})
			return got[key], err
		},
		"after an Invalidate": func(ctx context.Context, c *Cache[int], key string) (int, error) {
			if err := c.Invalidate(ctx, key); !errors.Is(err, ErrPending) {
				return 0, errors.New("Redis is away")
			}
			return c.Get(ctx, key)
		},
	}
	b := newBulk()
	r := newRedis(t)
	c := bulkInstance(t, r, b, func(o *Options[int]) { o.LocalBytes = 64 << 20 })
	r.down() // an embedded Redis takes a millisecond for each script
	eventually(t, "the outage is known", func() bool { return away(c) })
	gate := make(chan struct{})
	stop := func(keys []string) {
		if len(keys) > 1 {
			<-gate
		}
	}
	b.stop.Store(&stop)
	keys := names("k", (maxParts+1)*remote.MaxBatch)
	late := keys[len(keys)-len(ask):]
	all := make(chan map[string]int, 1)
	go func() {
		got, _ := c.GetMany(soon(t), keys)
		all <- got
	}()
	eventually(t, "four parts are under way", func() bool { return b.loads.Load() == maxParts })
	eventually(t, "the last waits for its turn", func() bool {
		f := c.flights.newest(late[len(late)-1])
		return f != nil && f.waiting
	})
	i := 0
	for name, ask := range ask {
		b.write(late[i])
		v, err := ask(soon(t), c, late[i])
		require.NoError(t, err, name)
		require.Equal(t, 1, v, name)
		i++
	}
	close(gate)
	got := wait(t, "the batch", all)
	require.Len(t, got, len(keys))
	for _, key := range late {
		require.Equal(t, 1, got[key])
	}
	for key, n := range b.loaded() {
		require.Equal(t, 1, n, key)
	}
	require.Zero(t, c.flights.underway())
}

// A flight that begins before the turn of its part is offered by both.
func TestTimeAFlightIsOfferedOnce(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t, func(o *Options[int]) { o.StaleIfError, o.SoftTimeout = time.Hour, time.Second })
		get(t, c, "k")
		time.Sleep(DefaultTTL + time.Second)
		f := alone(c, "k")
		f.done = make(chan struct{})
		c.mayEndEarly(f)
		for range 2 {
			require.Empty(t, c.offer([]*flight[int]{f}))
		}
		require.True(t, f.soft.ok)
	})
}
