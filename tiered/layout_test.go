package tiered

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/redisserver"
)

// Two numbers of partitions: whoever brings the new one waits until those of the old one are refused.
func TestC3AnotherNumberOfPartitionsWaitsForTheFirst(t *testing.T) {
	t.Parallel()
	r, s := newClusterRig(t), newSource()
	first := divided(t, r, s, 64)
	require.NoError(t, first.Ready(soon(t)))
	for range 10 { // the first one writes its own again if it looks in between
		require.True(t, r.del(first.keys.Layout()))
		second := divided(t, r, s, 128)
		err := second.Ready(soon(t))
		if err == nil {
			require.ErrorIs(t, first.Invalidate(soon(t), "k"), ErrPartitions, "the second one would not hear it")
			return
		}
		require.ErrorIs(t, err, ErrPartitions)
	}
	t.Fatal("the second one has never been let in")
}

// The first instance of all has nobody to wait for.
func TestTheFirstStartOfACacheInACluster(t *testing.T) {
	t.Parallel()
	r, s := newClusterRig(t), newSource()
	c := divided(t, r, s, clusterPartitions)
	require.NoError(t, c.Ready(soon(t)))
	require.False(t, r.exists(c.keys.Layout()+claimed))
	require.True(t, r.exists(c.keys.Layout()))
}

// An instance that has found no layout gets the claim when another one is done: it makes nobody wait, and starts nothing anew.
func TestTheSecondWhoWouldMakeTheLayout(t *testing.T) {
	t.Parallel()
	r, s := newClusterRig(t), newSource()
	c := instance(t, r, s)
	there, err := c.makeLayout(soon(t))
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint("1 ", DefaultPartitions), there)
	require.False(t, r.exists(c.keys.Layout()+claimed))
	require.NoError(t, c.Invalidate(soon(t), "k"))
	eventually(t, "its own message", func() bool { return c.Stats().Received == 1 })
}

// Copies of before it was refused are not served once the process itself has invalidated them.
func TestC2AnInstanceThatIsRefusedInvalidates(t *testing.T) {
	t.Parallel()
	r, s := newClusterRig(t), newSource()
	r.set("tandem:"+r.name()+":layout", "1 64")
	c := divided(t, r, s, 128)
	require.ErrorIs(t, c.Ready(soon(t)), ErrPartitions)
	require.Zero(t, get(t, c, "k"))
	require.NotNil(t, c.local.Get("k"))
	s.write("k")
	require.ErrorIs(t, c.Invalidate(soon(t), "k"), ErrPartitions)
	require.Equal(t, 1, get(t, c, "k"))
}

// Where the first look fails, the next comes soon, however long MaxStaleness is.
func TestTheFirstLookAtTheLayoutFails(t *testing.T) {
	t.Parallel()
	r, s := newClusterRig(t), newSource()
	r.close()
	c := lazyInstance(t, r, s, func(o *Options[int]) { o.MaxStaleness, o.TTL = time.Hour, time.Hour })
	eventually(t, "it has failed", func() bool { return c.Health().RedisError != nil })
	r.restart()
	require.NoError(t, c.Ready(soon(t)))
}

// divided is an instance that looks at the number of partitions as seldom as one may.
func divided(t *testing.T, r *clusterRig, s *source, partitions int) *Cache[int] {
	t.Helper()
	rdb := r.client(t)
	bus, err := NewBusWith(rdb, BusOptions{Partitions: partitions, Logger: quietLog()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = bus.Close() })
	c, err := New(rdb, r.name(), Options[int]{
		Load: s.load, LocalBytes: 2 << 20, RedisTimeout: 2 * time.Second, MaxStaleness: 3 * maxLayoutPause, Bus: bus, Logger: quietLog(),
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// The layout is gone while a master is lost: the epochs of the others are not started anew at every try to write it.
func TestTheLayoutIsGoneWhileAnotherNodeIsLost(t *testing.T) {
	nodes := ownCluster(t, redisserver.ClusterOptions{Replicas: -1})
	names := namesOf(t, "things", DefaultPartitions)
	var loads atomic.Int64
	load := func(context.Context, string) (string, error) { loads.Add(1); return "v", nil }
	a, err := New(clientOf(t, nodes, nil), "things", Options[string]{Load: load, CloseTimeout: 100 * time.Millisecond})
	require.NoError(t, err)
	defer func() { _ = a.Close() }()
	require.NoError(t, a.Ready(t.Context()))

	holder := masterOf(t, nodes, "tandem:things:layout")
	lost := otherThan(nodes.Nodes(), holder)
	well := otherThan(nodes.Nodes(), holder, lost)
	key, lostKey := keyOn(t, nodes, names, well, 0), keyOn(t, nodes, names, lost, 0)
	require.NoError(t, lost.Kill())
	eventually(t, "it is known to be lost", func() bool { return gateOf(a, lostKey).look().err != nil })
	require.NoError(t, holder.Client().Del(t.Context(), a.keys.Layout()).Err())
	loads.Store(0)
	for began := time.Now(); time.Since(began) < 2*layoutNotice; time.Sleep(50 * time.Millisecond) {
		v, err := a.Get(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, "v", v)
	}
	require.LessOrEqual(t, loads.Load(), int64(3), "loads of a key whose node is well")
}
