package integration

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/tests/redisserver"
	"github.com/tandemcache/tandem/tiered"
)

// What cannot keep the contract is refused, with what to change.
func TestWhatIsRefusedOfAClusterClient(t *testing.T) {
	t.Parallel()
	addrs := []string{"127.0.0.1:1"}
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}})
	t.Cleanup(func() { _ = ring.Close() })
	for name, tt := range map[string]struct {
		rdb  redis.UniversalClient
		what []string
	}{
		"reads from replicas":       {redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, ReadOnly: true}), []string{"replicas", "leave ReadOnly, "}},
		"the nearest node":          {redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, RouteByLatency: true}), []string{"replicas", "RouteByLatency"}},
		"any node":                  {redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, RouteRandomly: true}), []string{"replicas", "RouteRandomly"}},
		"a ring":                    {ring, []string{"*redis.Ring", "use *redis.Client, or *redis.ClusterClient"}},
		"a nil one":                 {(*redis.ClusterClient)(nil), []string{"nil", "use *redis.Client, or *redis.ClusterClient"}},
		"a client-side cache of it": {redis.NewClient(&redis.Options{ClientSideCacheConfig: &redis.ClientSideCacheConfig{MaxEntries: 10}}), []string{"ClientSideCacheConfig"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name != "a nil one" {
				t.Cleanup(func() { _ = tt.rdb.Close() })
			}
			_, err := tiered.New(tt.rdb, "things", tiered.Options[Value]{})
			require.ErrorIs(t, err, tiered.ErrUnsupportedClient)
			for _, what := range tt.what {
				require.ErrorContains(t, err, what)
			}
			_, err = tiered.NewBus(tt.rdb, nil)
			require.ErrorIs(t, err, tiered.ErrUnsupportedClient)
		})
	}
}

func TestWhatIsRefusedOfTheOptionsOnACluster(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}})
	t.Cleanup(func() { _ = rdb.Close() })
	_, err := tiered.New(rdb, "things", tiered.Options[Value]{Tracking: true})
	require.ErrorIs(t, err, tiered.ErrInvalidOption)
	require.ErrorContains(t, err, "Tracking")
	require.ErrorContains(t, err, "leave it unset")
	for _, n := range []int{-1, 1, 8, 17, 2048} {
		_, err := tiered.NewBusWith(rdb, tiered.BusOptions{Partitions: n})
		require.ErrorIs(t, err, tiered.ErrInvalidOption)
		require.ErrorContains(t, err, "BusOptions.Partitions")
		require.ErrorContains(t, err, "a power of two from 16 to 1024")
	}
}

// divided is an instance with a bus of its own.
func divided(t *testing.T, r *rig, s *source, partitions int) *tiered.Cache[Value] {
	t.Helper()
	rdb := r.client(t)
	bus, err := tiered.NewBusWith(rdb, tiered.BusOptions{Logger: slog.New(slog.DiscardHandler), Partitions: partitions})
	require.NoError(t, err)
	t.Cleanup(func() { _ = bus.Close() })
	c, err := tiered.New(rdb, r.name(), tiered.Options[Value]{
		Load: s.load, LocalBytes: 8 << 20, Logger: slog.New(slog.DiscardHandler), Bus: bus,
		MaxStaleness: time.Second, RedisTimeout: unhurried,
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Instances of one cache with other numbers of partitions would not hear each other: the later one is not let in.
func TestAnotherNumberOfPartitionsIsRefused(t *testing.T) {
	r, s := onSharedCluster(t), newSource(0)
	first := divided(t, r, s, 32)
	require.NoError(t, first.Ready(soon(t)))
	require.Zero(t, get(t, first, "k"))

	second := divided(t, r, s, 64)
	err := second.Ready(soon(t))
	require.ErrorIs(t, err, tiered.ErrPartitions)
	for _, what := range []string{"has 32", "Partitions is 64", "tandem:" + r.name() + ":layout"} {
		require.ErrorContains(t, err, what)
	}
	// It says so wherever it would change something, and serves what it loads.
	v := s.write("k")
	require.ErrorIs(t, second.Invalidate(soon(t), "k"), tiered.ErrPartitions)
	require.ErrorIs(t, second.InvalidateAll(soon(t)), tiered.ErrPartitions)
	require.ErrorIs(t, second.InvalidateTags(soon(t), "tag"), tiered.ErrPartitions)
	require.ErrorIs(t, second.Set(soon(t), "k", v), tiered.ErrPartitions)
	require.ErrorIs(t, second.SetMany(soon(t), map[string]Value{"k": v}), tiered.ErrPartitions)
	require.Equal(t, v.Version, get(t, second, "k"), "from the source")
	require.ErrorIs(t, second.Health().RedisError, tiered.ErrPartitions)
	require.Zero(t, get(t, first, "k"), "nobody could tell it")

	// It does not keep a copy for longer than it would without Redis.
	w := s.write("k")
	require.NoError(t, first.Invalidate(soon(t), "k"))
	time.Sleep(time.Second + 10*time.Millisecond) // MaxStaleness
	require.Equal(t, w.Version, get(t, second, "k"))
	require.Equal(t, w.Version, get(t, first, "k"))
	eventually(t, "it is believed", func() bool { return first.Health().RemoteTrusted })

	// The number is changed as the error says.
	require.NoError(t, first.Close())
	require.NoError(t, second.Close())
	require.NoError(t, r.client(t).Del(soon(t), "tandem:"+r.name()+":layout").Err())
	third := divided(t, r, s, 64)
	require.NoError(t, third.Ready(soon(t)))
	require.Equal(t, w.Version, get(t, third, "k"))
}

// A number that was changed, and changed back: what was stored before is not found again.
func TestPartitionsThatAreChangedAndChangedBack(t *testing.T) {
	r, s := onSharedCluster(t), newSource(0)
	for _, partitions := range []int{64, 16, 64} {
		c := divided(t, r, s, partitions)
		require.NoError(t, c.Ready(soon(t)))
		for i := range 100 {
			key := fmt.Sprint("k", i)
			require.Equal(t, s.read(key).Version, get(t, c, key))
			v := s.write(key)
			require.NoError(t, c.Invalidate(soon(t), key))
			require.Equal(t, v.Version, get(t, c, key))
		}
		require.NoError(t, c.Close())
		require.NoError(t, r.client(t).Del(soon(t), "tandem:"+r.name()+":layout").Err())
	}
}

// A batch reads each master once, and there only what that has.
func TestABatchOverAllMasters(t *testing.T) {
	r, b := onSharedCluster(t), newBulk(0)
	f := fleet(t, 2, r, b.source, b.many, calm)
	keys := batchOf("k", 100)
	getMany(t, f[0], keys...)
	require.Equal(t, 1, b.most())
	require.EqualValues(t, 1, b.loads.Load(), "one load for all masters")
	owned := map[string]int{}
	for _, key := range keys {
		owned[r.master(t, key)]++
	}
	require.Len(t, owned, 3)
	eventually(t, "nothing of Redis is in doubt", func() bool { return f[1].Health().RemoteTrusted })
	r.everywhere(t, func(ctx context.Context, admin *redis.Client) error { return admin.ConfigResetStat(ctx).Err() })
	getMany(t, f[1], keys...)
	require.Equal(t, 100, commands(t, r)["hget"])
	require.EqualValues(t, 100, f[1].Stats().RemoteHits)
	for i, admin := range r.admins(t) {
		n := admin.InfoMap(soon(t), "commandstats").Val()["Commandstats"]["cmdstat_hget"]
		require.Contains(t, n, fmt.Sprintf("calls=%d,", owned[r.masters[i].Addr()]))
	}
}

// lossy is a cluster of a test's own, whose masters have no replicas and answer without one another.
func lossy(t *testing.T) (*rig, *redisserver.Cluster) {
	t.Helper()
	c := redisserver.RunCluster(t, redisserver.ClusterOptions{Replicas: -1, Args: []string{"--cluster-require-full-coverage", "no"}})
	return onCluster(t, c), c
}

// apart sorts keys by whether they are on the server.
func (r *rig) apart(t *testing.T, srv *redisserver.Server, keys []string) (on, off []string) {
	t.Helper()
	for _, key := range keys {
		if r.master(t, key) == srv.Addr() {
			on = append(on, key)
		} else {
			off = append(off, key)
		}
	}
	require.NotEmpty(t, on)
	require.NotEmpty(t, off)
	return on, off
}

// pendingKeys are those that an error names as not confirmed.
func pendingKeys(t *testing.T, err error) (keys []string) {
	t.Helper()
	require.ErrorIs(t, err, tiered.ErrPending)
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for _, one := range all {
		var k *tiered.KeysError
		require.ErrorAs(t, one, &k)
		require.ErrorIs(t, one, tiered.ErrPending)
		keys = append(keys, k.Keys...)
	}
	return keys
}

// A master is lost for good, and has no replica. What it had is loaded, and its invalidations are pending; of the others
// nothing is lost, in neither tier, however long it takes.
func TestALostMaster(t *testing.T) {
	r, c := lossy(t)
	b := newBulk(0)
	const bound = 3 * time.Second
	f := fleet(t, 2, r, b.source, b.many, byKey, func(o *tiered.Options[Value]) {
		o.MaxStaleness, o.TTL, o.LocalTTL, o.Jitter = bound, time.Hour, time.Hour, tiered.Off
	})
	keys := batchOf("team/", 100)
	others := batchOf("other/", 100)
	lost := r.masters[1]
	dead, alive := r.apart(t, lost, keys)
	for _, one := range f {
		eventually(t, "nothing is in doubt", func() bool {
			getMany(t, one, slices.Concat(keys, others)...)
			before := one.Stats().RemoteHits
			getMany(t, one, slices.Concat(keys, others)...)
			return one.Stats().RemoteHits == before // all are in L1
		})
	}
	require.NoError(t, c.Nodes()[1].Kill())
	killed := time.Now()
	time.Sleep(2 * bound) // and what L1 has of the lost master's is past its last proof
	b.reset()
	remote := f[1].Stats().RemoteHits
	for _, key := range alive {
		require.Zero(t, get(t, f[1], key))
	}
	require.Empty(t, b.loaded(), "L1 goes on with what is elsewhere")
	require.Equal(t, remote, f[1].Stats().RemoteHits, "and is asked alone")
	getMany(t, f[1], keys...)
	require.ElementsMatch(t, dead, b.loaded())
	require.False(t, f[1].Health().RemoteTrusted)
	require.False(t, f[1].Health().LocalTrusted)

	for what, write := range map[string]func() error{
		"Invalidate": func() error { return f[0].Invalidate(t.Context(), keys...) },
		"SetMany": func() error {
			values := map[string]Value{}
			for _, key := range keys {
				values[key] = b.read(key)
			}
			return f[0].SetMany(t.Context(), values)
		},
	} {
		for _, key := range keys {
			b.write(key)
		}
		began := time.Now()
		require.ElementsMatch(t, dead, pendingKeys(t, write()), what)
		require.Less(t, time.Since(began), bound, what)
		want := b.read(keys[0]).Version
		for _, key := range keys {
			require.Equal(t, want, get(t, f[0], key), "%s: C2 of %s", what, key)
		}
		eventually(t, "the others are invalidated", func() bool {
			for _, key := range alive {
				if get(t, f[1], key) != want {
					return false
				}
			}
			return true
		})
		eventually(t, "C3 without an invalidation", func() bool { return slices.Min(versions(getMany(t, f[1], dead...))) == want })
	}

	// What concerns all partitions.
	for what, write := range map[string]func() error{
		"InvalidateTags": func() error { return f[0].InvalidateTags(t.Context(), "team") },
		"InvalidateAll":  func() error { return f[0].InvalidateAll(t.Context()) },
	} {
		for _, key := range keys {
			b.write(key)
		}
		require.ErrorIs(t, write(), tiered.ErrPending, what)
		want := b.read(keys[0]).Version
		for _, key := range keys {
			require.Equal(t, want, get(t, f[0], key), "%s: C2 of %s", what, key)
		}
		eventually(t, "the others are invalidated", func() bool {
			for _, key := range alive {
				if get(t, f[1], key) != want {
					return false
				}
			}
			return true
		})
	}

	require.NoError(t, c.Nodes()[1].Restart()) // without its keys
	for _, one := range f {
		eventually(t, "all is trusted, and nothing pending", func() bool {
			h := one.Health()
			return h.LocalTrusted && h.RemoteTrusted && h.PendingKeys == 0 && !h.PendingAll
		})
		for key, v := range getMany(t, one, keys...) {
			require.Equal(t, b.read(key).Version, v, key)
		}
	}
	for _, key := range keys {
		b.write(key)
	}
	require.NoError(t, f[0].Invalidate(t.Context(), keys...))
	for key, v := range getMany(t, f[0], keys...) {
		require.Equal(t, b.read(key).Version, v, key)
	}
	eventually(t, "the other hears of all", func() bool {
		for key, v := range getMany(t, f[1], keys...) {
			if v != b.read(key).Version {
				return false
			}
		}
		return true
	})
	t.Logf("%d of %d keys on a master that was away for %v", len(dead), len(keys), time.Since(killed).Round(time.Millisecond))
}

func versions(of map[string]int64) (all []int64) {
	for _, v := range of {
		all = append(all, v)
	}
	return all
}

// A master that is lost has a replica: what was in Redis is believed again after it has taken over, at its new place.
func TestAFailoverInACluster(t *testing.T) {
	servers := redisserver.RunCluster(t, redisserver.ClusterOptions{NodeTimeout: time.Second})
	r, s := onCluster(t, servers), newSource(0)
	const bound = time.Second
	f := fleet(t, 2, r, s, func(o *tiered.Options[Value]) { o.MaxStaleness = bound })
	keys := batchOf("k", 60)
	for _, key := range keys {
		get(t, f[0], key)
		get(t, f[1], key)
	}
	require.NoError(t, servers.Nodes()[0].Kill())
	killed := time.Now()
	var confirmed time.Duration
	for confirmed == 0 {
		for _, key := range keys {
			s.write(key)
		}
		want := s.read(keys[0]).Version
		err := f[0].Invalidate(t.Context(), keys...)
		acked := time.Now()
		if err == nil && time.Since(killed) > bound {
			confirmed = time.Since(killed)
		} else if err != nil {
			require.ErrorIs(t, err, tiered.ErrPending)
		}
		for _, key := range keys {
			require.Equal(t, want, get(t, f[0], key), "C2")
		}
		if err == nil {
			for late := false; !late; {
				late = time.Since(acked) > bound
				for _, key := range keys {
					if v := get(t, f[1], key); late {
						require.Equal(t, want, v, "C3")
					}
				}
			}
		}
		require.Less(t, time.Since(killed), 2*patience)
	}
	eventually(t, "all is trusted", func() bool {
		h := f[1].Health()
		return h.LocalTrusted && h.RemoteTrusted
	})
	require.NotZero(t, f[0].Stats().ServerChanges)
	t.Logf("all keys invalidated with confirmation %v after a master was killed", confirmed)
}

// A cluster of servers that do not know sharded channels, as those before Redis 7.
func TestAClusterWithoutShardedChannels(t *testing.T) {
	old := redisserver.RunCluster(t, redisserver.ClusterOptions{
		Replicas: -1, Args: []string{"--rename-command", "SPUBLISH", "", "--rename-command", "SSUBSCRIBE", ""},
	})
	r, s := onCluster(t, old), newSource(0)
	c, err := tiered.New(r.client(t), r.name(), tiered.Options[Value]{Load: s.load, LocalBytes: 8 << 20, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.ErrorContains(t, tellsWhy(t, c, pubsub.ErrUnsupportedServer), "Redis 7.0 or later is needed")
	require.Zero(t, get(t, c, "k"), "from the source")
}
