package tiered

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAnInvalidationReachesEveryInstance(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		f := fleet(t, 4, r, s)
		for range 20 {
			for _, c := range f {
				require.Equal(t, s.version("k"), get(t, c, "k"))
			}
			v := s.write("k")
			require.NoError(t, f[1].Invalidate(soon(t), "k"))
			require.Equal(t, v, get(t, f[1], "k"), "C2")
			for _, c := range f {
				eventually(t, "the new version", func() bool { return get(t, c, "k") == v })
			}
		}
	})
}

func TestInvalidateAll(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		f := fleet(t, 2, r, s)
		for i := range 50 {
			require.Equal(t, 0, get(t, f[0], keyName(i)))
			require.Equal(t, 0, get(t, f[1], keyName(i)))
		}
		for i := range 50 {
			s.write(keyName(i))
		}
		require.NoError(t, f[0].InvalidateAll(soon(t)))
		for i := range 50 {
			require.Equal(t, 1, get(t, f[0], keyName(i)), "C2 on the writer")
		}
		for i := range 50 {
			eventually(t, "the other instance", func() bool { return get(t, f[1], keyName(i)) == 1 })
		}
		require.EqualValues(t, 100, s.loads.Load(), "the second instance finds the first one's fills")
	})
}

func TestInvalidateManyKeys(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		f := fleet(t, 2, r, s)
		keys := make([]string, 2500)
		for i := range keys {
			keys[i] = keyName(i)
		}
		for _, key := range keys[:100] {
			get(t, f[1], key)
			s.write(key)
		}
		require.NoError(t, f[0].Invalidate(soon(t), "warm")) // the script is known
		before := f[0].Stats().Commands
		require.NoError(t, f[0].Invalidate(soon(t), keys...))
		scripts := f[0].Stats().Commands - before
		if r.partitions() == 1 {
			require.EqualValues(t, 3, scripts, "one trip for each 1000")
		}
		require.LessOrEqual(t, scripts, uint64(3*r.partitions()))
		for _, key := range keys[:100] {
			eventually(t, "evicted", func() bool { return get(t, f[1], key) == 1 })
		}
		require.NoError(t, f[0].Invalidate(soon(t)))
	})
}

// What cannot be read may have been an invalidation.
func TestAnUnreadableMessageDropsL1(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		c := instance(t, r, s)
		get(t, c, "k")
		require.NotNil(t, c.local.Get("k"))
		for _, m := range []string{"", "DEL k", "tandem/2 inv 1:x,1:k,", "tandem/1 beat 1:x,"} {
			r.publish("k", m)
		}
		eventually(t, "counted", func() bool { return c.Stats().Unreadable == 4 })
		require.Nil(t, c.local.Get("k"))
		require.Equal(t, 0, get(t, c, "k"))
		require.True(t, c.Health().LocalTrusted, "the session goes on")
	})
}

// The wire format, as another language would use it.
func TestAForeignInvalidation(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		c := instance(t, r, s)
		get(t, c, "k")
		s.write("k")
		publish := "PUBLISH"
		if r.partitions() > 1 {
			publish = "SPUBLISH"
		}
		r.eval(`redis.call('UNLINK', KEYS[1]) return redis.call(ARGV[1], ARGV[2], ARGV[3])`,
			[]string{r.entry("k")}, publish, r.channel("k"), "tandem/1 inv 5:shell,1:k,")
		eventually(t, "evicted", func() bool { return get(t, c, "k") == 1 })
	})
}

func TestManyCachesOnOneBus(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		rdb := r.client(t)
		bus, err := NewBus(rdb, quietLog())
		require.NoError(t, err)
		var caches []*Cache[int]
		var sources []*source
		for i := range 5 {
			s := newSource()
			c, err := New(rdb, fmt.Sprint(r.name(), "-", i), Options[int]{
				Load: s.load, Bus: bus, Logger: quietLog(), LocalBytes: 1 << 20, RedisTimeout: 2 * time.Second,
			})
			require.NoError(t, err)
			caches, sources = append(caches, c), append(sources, s)
		}
		for i, c := range caches {
			require.NoError(t, c.Ready(soon(t)))
			require.Equal(t, 0, get(t, c, "k"))
			sources[i].write("k")
		}
		require.EqualValues(t, r.masters(), sessionsOf(bus))
		require.NoError(t, caches[0].Invalidate(soon(t), "k"))
		require.Equal(t, 1, get(t, caches[0], "k"))
		require.Equal(t, 0, get(t, caches[1], "k"), "another cache")

		_, err = New(r.client(t), "x", Options[int]{Bus: bus})
		require.ErrorIs(t, err, ErrInvalidOption)

		require.NoError(t, caches[0].Close())
		require.Equal(t, 0, get(t, caches[1], "k"))
		for _, c := range caches {
			require.NoError(t, c.Close())
		}
		require.NoError(t, bus.Close())
		require.NoError(t, bus.Close())
		_, err = New(rdb, "x", Options[int]{Bus: bus})
		require.ErrorIs(t, err, ErrClosed)
	})
}

// Two objects of one cache on one bus: neither may skip what the other has sent.
func TestTwoInstancesOnOneBus(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		rdb := r.client(t)
		bus, err := NewBus(rdb, quietLog())
		require.NoError(t, err)
		defer func() { require.NoError(t, bus.Close()) }()
		var f []*Cache[int]
		for range 2 {
			c, err := New(rdb, r.name(), Options[int]{
				Load: s.load, Bus: bus, Logger: quietLog(), LocalBytes: 1 << 20, RedisTimeout: 2 * time.Second,
			})
			require.NoError(t, err)
			defer c.Close()
			require.NoError(t, c.Ready(soon(t)))
			f = append(f, c)
		}
		for range 20 {
			v := s.write("k")
			require.NoError(t, f[0].Invalidate(soon(t), "k"))
			eventually(t, "the other object", func() bool { return get(t, f[1], "k") == v })
			require.Equal(t, v, get(t, f[0], "k"))
		}
	})
}
