package integration

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered"
)

// A slot that no node has for a while, as after a failover in the midst of its migration. When it is given to somebody, all that
// was in Redis is there again, and in it what was to be invalidated meanwhile.
func TestASlotThatNoNodeHas(t *testing.T) {
	r, c := lossy(t)
	s := newSource(0)
	const bound = time.Second
	const key = "k"
	f := fleet(t, 2, r, s, func(o *tiered.Options[Value]) {
		o.MaxStaleness, o.TTL, o.LocalTTL, o.Jitter = bound, time.Hour, time.Hour, tiered.Off
	})
	entry := r.keys.Entry(key)
	slot := int(r.client(t).(*redis.ClusterClient).ClusterKeySlot(soon(t), entry).Val())
	owner, err := c.Master(slot)
	require.NoError(t, err)
	old := s.write(key)
	eventually(t, "it is in Redis, and in L1 everywhere", func() bool {
		for _, one := range f {
			require.Equal(t, old.Version, get(t, one, key))
			if h := one.Health(); !h.LocalTrusted || !h.RemoteTrusted {
				return false
			}
		}
		return owner.Client().Exists(soon(t), entry).Val() == 1
	})

	require.NoError(t, owner.Client().ClusterDelSlots(soon(t), slot).Err())
	v := s.write(key)
	require.ErrorIs(t, f[0].Invalidate(soon(t), key), tiered.ErrPending)
	require.Equal(t, v.Version, get(t, f[0], key), "C2")
	eventually(t, "C3 without an invalidation", func() bool { return get(t, f[1], key) == v.Version })
	require.Positive(t, owner.Client().ClusterCountKeysInSlot(soon(t), slot).Val())
	require.Equal(t, 1, f[0].Health().PendingKeys)

	require.NoError(t, owner.Client().ClusterAddSlots(soon(t), slot).Err())
	eventually(t, "it is invalidated", func() bool {
		require.Equal(t, v.Version, get(t, f[0], key), "C2")
		return f[0].Health().PendingKeys == 0
	})
	for confirmed := time.Now(); time.Since(confirmed) < bound; {
		require.Equal(t, v.Version, get(t, f[0], key), "C2")
		get(t, f[1], key)
	}
	require.Equal(t, v.Version, get(t, f[1], key), "C3")

	for _, one := range f {
		eventually(t, "all is trusted", func() bool { return one.Health().LocalTrusted && one.Health().RemoteTrusted })
	}
	v = s.write(key)
	require.NoError(t, f[0].Invalidate(soon(t), key))
	require.Equal(t, v.Version, get(t, f[0], key))
	eventually(t, "the other hears of it", func() bool { return get(t, f[1], key) == v.Version })
}
