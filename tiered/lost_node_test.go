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

type holdingObserver struct {
	Observer
	armed atomic.Bool
	in    chan struct{}
	out   chan struct{}
}

func (o *holdingObserver) Invalidating(ctx context.Context, s InvalidationStart) string {
	if o.armed.CompareAndSwap(true, false) {
		close(o.in)
		<-o.out
	}
	return ""
}

// A Set that has chosen the old master is not sent there once the new one is known: it would be confirmed, and forgotten.
func TestC2ASetThatHasChosenTheOldMaster(t *testing.T) {
	s := newSplit(t)
	hold := &holdingObserver{Observer: NopObserver{}, in: make(chan struct{}), out: make(chan struct{})}
	c, err := New(s.rdb, "things", Options[string]{
		Load: func(context.Context, string) (string, error) { return "loaded", nil }, LocalTTL: Off,
		MaxStaleness: 3 * time.Second, RedisTimeout: 2 * time.Second, Observer: hold, CloseTimeout: 100 * time.Millisecond,
	})
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	require.NoError(t, c.Ready(t.Context()))
	require.NoError(t, c.Set(t.Context(), s.key, "old"))
	s.beats(t, c, 2) // so that the journal has nothing of it any more
	s.part(t)

	hold.armed.Store(true)
	set := make(chan error, 1)
	go func() { set <- c.Set(t.Context(), s.key, "new") }()
	<-hold.in
	s.lead(t)
	require.Eventually(t, func() bool { return nodeOf(c, s.key).of.addr == s.by.Addr() }, 20*time.Second, time.Millisecond)
	close(hold.out)
	require.ErrorIs(t, wait(t, "the Set", set), ErrPending)
	eventually(t, "it is repeated on the new master", func() bool { return !pendingOf(c, s.key).has(s.key) })
	n, err := s.by.Client().Exists(t.Context(), s.names.entry(s.key)).Result()
	require.NoError(t, err)
	require.Zero(t, n, "the old value")
}

// A call for many keys waits once for a node that hangs, not once for each thousand of them.
func TestInvalidateOfManyKeysWhileANodeHangs(t *testing.T) {
	nodes := ownCluster(t, redisserver.ClusterOptions{Replicas: -1, NodeTimeout: time.Minute})
	c, err := New(clientOf(t, nodes, nil), "things", Options[string]{
		Load: func(context.Context, string) (string, error) { return "v", nil }, CloseTimeout: 100 * time.Millisecond,
		RedisTimeout: 2 * time.Second,
	})
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	require.NoError(t, c.Ready(t.Context()))
	keys := make([]string, 30000)
	for i := range keys {
		keys[i] = fmt.Sprint("key-", i)
	}
	began := time.Now()
	require.NoError(t, c.Invalidate(t.Context(), keys...))
	well := time.Since(began)
	require.NoError(t, nodes.Nodes()[1].Pause())
	defer func() { _ = nodes.Nodes()[1].Resume() }()
	began = time.Now()
	err = c.Invalidate(t.Context(), keys...)
	took := time.Since(began)
	require.ErrorIs(t, err, ErrPending)
	require.Less(t, took, 10*well+3*c.opts.RedisTimeout)
}

// A master that its fellows have lost, and clients have not, answers everybody and takes nothing: its replica is found all the same.
func TestAMasterThatOnlyItsFellowsHaveLost(t *testing.T) {
	nodes := ownCluster(t, redisserver.ClusterOptions{Links: true, NodeTimeout: time.Second})
	names := namesOf(t, "things", DefaultPartitions)
	c, err := New(clientOf(t, nodes, nil), "things", Options[string]{
		Load: func(context.Context, string) (string, error) { return "v", nil }, CloseTimeout: 100 * time.Millisecond,
	})
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	require.NoError(t, c.Ready(t.Context()))
	old := nodes.Nodes()[0]
	by := nodes.Replicas(old)[0]
	var keys []string
	for i := range 8 {
		keys = append(keys, keyOn(t, nodes, names, old, i))
	}
	nodes.Partition(old)
	defer nodes.Heal()
	require.Eventually(t, func() bool {
		reply, err := by.Client().Do(t.Context(), "ROLE").Slice()
		return err == nil && reply[0] == "master"
	}, 30*time.Second, 20*time.Millisecond)
	require.Eventually(t, func() bool { return c.Invalidate(t.Context(), keys...) == nil }, 20*time.Second, 50*time.Millisecond,
		"the replica has had the slots for long")
}

// A node that hangs when an instance starts does not hold up changes of keys that are elsewhere.
func TestAChangeWaitsForPartsWithoutANode(t *testing.T) {
	nodes := ownCluster(t, redisserver.ClusterOptions{Replicas: -1, NodeTimeout: time.Minute})
	names := namesOf(t, "things", DefaultPartitions)
	load := func(context.Context, string) (string, error) { return "v", nil }
	opts := Options[string]{
		Load: load, CloseTimeout: 100 * time.Millisecond, MaxStaleness: 6 * time.Second, RedisTimeout: 4 * time.Second,
	}
	a, err := New(clientOf(t, nodes, nil), "things", opts)
	require.NoError(t, err)
	defer func() { _ = a.Close() }()
	require.NoError(t, a.Ready(t.Context())) // the layout is written
	holder := masterOf(t, nodes, "tandem:things:layout")
	hung := otherThan(nodes.Nodes(), holder)
	well := otherThan(nodes.Nodes(), hung)
	lost, key := keyOn(t, nodes, names, hung, 0), keyOn(t, nodes, names, well, 0)
	rdb := clientOf(t, nodes, nil)
	require.NoError(t, rdb.Ping(t.Context()).Err())
	require.NoError(t, hung.Pause())
	defer func() { _ = hung.Resume() }()
	b, err := New(rdb, "things", opts)
	require.NoError(t, err)
	defer func() { _ = b.Close() }()
	require.Eventually(t, func() bool { return nodeOf(b, key) != nil }, 20*time.Second, time.Millisecond)
	require.Nil(t, nodeOf(b, lost))
	// It ends before the first heartbeat of the hung node fails, which would tell that there is nothing to wait for.
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, b.Invalidate(ctx, key, lost), ErrPending)
	require.False(t, pendingOf(b, key).has(key), "the node of this key is well")
}
