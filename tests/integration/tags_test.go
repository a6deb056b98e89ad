package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/confirm"
	"github.com/tandemcache/tandem/tiered"
)

// byKey tags values by what stands in their keys before the slash.
func byKey(o *tiered.Options[Value]) {
	o.Tags = func(key string, _ Value) []string {
		tag, _, _ := strings.Cut(key, "/")
		return []string{tag}
	}
}

// C4 for tags: a load that read the old version is under way on one instance while its tag is invalidated. Then the one that
// invalidates, the loader and an instance that never had the key are asked, twice.
func TestAnOldLoadAgainstATag(t *testing.T) {
	for who, writes := range map[string]int{"by another instance": 1, "by the loading instance": 0} {
		t.Run(who, func(t *testing.T) {
			onBoth(t, func(t *testing.T, r *rig) {
				s := newSource(0)
				f := fleet(t, 3, r, s, byKey, calm)
				loader, writer, cold := f[0], f[writes], f[2]
				const rounds = 30
				for round := range rounds {
					key := fmt.Sprintf("team/%d", round)
					read, letGo := s.holdNext()
					old := make(chan int64, 1)
					go func() {
						v, _ := loader.Get(context.Background(), key)
						old <- v.Version
					}()
					wait(t, "the load", read)
					heard := loader.Stats().Received
					s.write(key)
					require.NoError(t, writer.InvalidateTags(soon(t), "team"))
					eventually(t, "the loader hears", func() bool { return loader.Stats().Received >= heard+r.partitions() })
					letGo()
					require.Zero(t, wait(t, "the old load", old))
					for range 2 {
						for name, c := range map[string]*tiered.Cache[Value]{"writer": writer, "loader": loader, "cold": cold} {
							require.EqualValues(t, 1, get(t, c, key), name)
						}
					}
				}
				require.EqualValues(t, rounds, loader.Stats().Refused)
			})
		})
	}
}

// One round trip ends any number of entries, and touches none of them.
func TestATagOfManyEntries(t *testing.T) {
	onBoth(t, func(t *testing.T, r *rig) {
		s := newSource(0)
		f := fleet(t, 2, r, s, byKey, calm, func(o *tiered.Options[Value]) { o.RedisTimeout = patience })
		const many = 2000
		var keys []string
		for i := range many {
			keys = append(keys, fmt.Sprint("team/", i))
		}
		for _, c := range f {
			_, err := c.GetMany(soon(t), append([]string{"other/1"}, keys...))
			require.NoError(t, err)
		}
		require.EqualValues(t, many+1, s.loads.Load())
		size, versions := r.size(t), r.versions(t, "team")
		before := f[0].Stats().Commands
		require.NoError(t, f[0].InvalidateTags(soon(t), "team"))
		require.LessOrEqual(t, f[0].Stats().Commands-before, 2*r.partitions(), "the script, and its source the first time")
		require.Equal(t, size-versions, r.size(t), "the tag's version, in each partition")
		eventually(t, "the other hears", func() bool { return f[1].Stats().Received == r.partitions() })
		s.write(keys[many-1])
		for _, c := range f {
			require.EqualValues(t, 1, get(t, c, keys[many-1]))
			require.EqualValues(t, 0, get(t, c, "other/1"))
		}
		require.EqualValues(t, many+2, s.loads.Load())
	})
}

// The same for all entries.
func TestInvalidateAllOfManyEntries(t *testing.T) {
	onBoth(t, func(t *testing.T, r *rig) {
		s := newSource(0)
		f := fleet(t, 2, r, s, calm, func(o *tiered.Options[Value]) { o.RedisTimeout = patience })
		keys := batchOf("k", 2000)
		for _, c := range f {
			getMany(t, c, keys...)
		}
		require.EqualValues(t, len(keys), s.loads.Load())
		size := r.size(t)
		before := f[0].Stats().Commands
		for _, key := range keys {
			s.write(key)
		}
		require.NoError(t, f[0].InvalidateAll(soon(t)))
		require.LessOrEqual(t, f[0].Stats().Commands-before, 2*r.partitions(), "the script, and its source the first time")
		require.Equal(t, size, r.size(t))
		for key, v := range getMany(t, f[0], keys...) {
			require.EqualValues(t, 1, v, key)
		}
		eventually(t, "the other hears", func() bool { return f[1].Stats().Received >= r.partitions() })
		for key, v := range getMany(t, f[1], keys...) {
			require.EqualValues(t, 1, v, key)
		}
	})
}

// A failover that loses the confirmed invalidation of a tag: the replica has its version again, and with it the entries.
func TestAFailoverThatLosesAConfirmedInvalidationOfATag(t *testing.T) {
	for round := range 3 {
		p, s := newPair(t), newSource(0)
		const bound = 500 * time.Millisecond
		slow := func(o *tiered.Options[Value]) { o.MaxStaleness = bound; byKey(o) }
		writer, reader := p.instance(s, slow), p.instance(s, slow)
		get(t, writer, "team/1")
		p.settled()
		p.cut()
		if round == 1 {
			for range 2 { // each heartbeat sees the stream up to the one before it
				p.streamGoesOn()
			}
		}
		v := s.write("team/1")
		confirm.Within(t, patience, func() error { return writer.InvalidateTags(soon(t), "team") })
		acked := time.Now()
		p.failOver()
		for time.Since(acked) < 20*bound {
			began := time.Since(acked)
			require.Equal(t, v.Version, get(t, writer, "team/1"), "C2, %v after", began)
			if got := get(t, reader, "team/1"); began > bound {
				require.Equal(t, v.Version, got, "C3, %v after", began)
			}
			if trusted(writer) && trusted(reader) {
				break
			}
			time.Sleep(time.Millisecond)
		}
		eventually(t, "both believe the new one", func() bool { return trusted(writer) && trusted(reader) })
		third := p.instance(s, slow)
		eventually(t, "a new instance believes Redis", func() bool { return third.Health().RemoteTrusted })
		require.Equal(t, v.Version, get(t, third, "team/1"), "from Redis")
		t.Logf("round %d: invalidations repeated %d", round, writer.Stats().Replayed)
	}
}

// A snapshot from before the invalidation brings the tag's version back, and the entries.
func TestARestartFromASnapshotWithATag(t *testing.T) {
	srv, s := startRedis(t), newSource(0)
	const bound = 500 * time.Millisecond
	f := fleet(t, 2, srv, s, byKey, func(o *tiered.Options[Value]) { o.MaxStaleness = bound })
	get(t, f[0], "team/1")
	require.NoError(t, client(t, srv).Save(soon(t)).Err())
	v := s.write("team/1")
	confirm.Within(t, patience, func() error { return f[0].InvalidateTags(soon(t), "team") })
	acked := time.Now()
	require.NoError(t, srv.Kill())
	require.NoError(t, srv.Restart())
	for time.Since(acked) < 4*bound || !trusted(f[0]) || !trusted(f[1]) {
		require.Equal(t, v.Version, get(t, f[0], "team/1"))
		began := time.Since(acked)
		if got := get(t, f[1], "team/1"); began > bound {
			require.Equal(t, v.Version, got, "%v after", began)
		}
		require.Less(t, time.Since(acked), patience)
	}
}
