package redisserver_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/redisserver"
)

const patience = 60 * time.Second

// tag is a key, and what other keys begin with that are to have its slot.
const (
	tag  = "{c}"
	slot = 7365
)

func TestRunCluster_isWhole(t *testing.T) {
	t.Parallel()
	c := redisserver.RunCluster(t, redisserver.ClusterOptions{})

	rdb := c.Client()
	for i := range 100 {
		key := fmt.Sprint("k", i)
		require.NoError(t, rdb.Set(t.Context(), key, i, 0).Err())
		require.Equal(t, fmt.Sprint(i), rdb.Get(t.Context(), key).Val())
	}
	nodes := c.Nodes()
	require.Len(t, nodes, 6)
	require.Equal(t, nodes[:3], c.Masters())
	require.Equal(t, nodes[0].ID(), nodes[0].Client().ClusterMyID(t.Context()).Val())
	for i, master := range nodes[:3] {
		require.Equal(t, nodes[3+i:4+i], c.Replicas(master))
		require.Positive(t, master.Client().DBSize(t.Context()).Val())
	}
	for first, want := range map[int]int{0: 0, 5460: 0, 5461: 1, 10921: 1, 10922: 2, redisserver.Slots - 1: 2} {
		require.Same(t, nodes[want], masterOf(t, c, first), "slot %d", first)
	}
	require.Equal(t, int64(slot), rdb.ClusterKeySlot(t.Context(), tag).Val())
}

func TestRunCluster_otherSizes(t *testing.T) {
	t.Parallel()
	c := redisserver.RunCluster(t, redisserver.ClusterOptions{Masters: 2, Replicas: -1, Args: []string{"--maxmemory", "7mb"}})

	require.Len(t, c.Nodes(), 2)
	for _, n := range c.Nodes() {
		require.Equal(t, "7340032", n.Client().ConfigGet(t.Context(), "maxmemory").Val()["maxmemory"])
	}
	require.NoError(t, c.Close())
	require.NoError(t, c.Close(), "closing twice")
	require.ErrorIs(t, c.Nodes()[0].Restart(), redisserver.ErrClosed)
}

func TestStartCluster_tellsWhyRedisRefused(t *testing.T) {
	t.Parallel()
	redisserver.Need(t)

	_, err := redisserver.StartCluster(redisserver.ClusterOptions{Args: []string{"--no-such-option", "1"}})
	require.ErrorContains(t, err, "no-such-option")
}

func TestCluster_Failover(t *testing.T) {
	t.Parallel()
	c := redisserver.RunCluster(t, redisserver.ClusterOptions{})
	rdb := c.Client()
	old := masterOf(t, c, slot)
	heir := c.Replicas(old)[0]
	require.NoError(t, rdb.Set(t.Context(), tag, "v", 0).Err())

	require.NoError(t, c.Failover(heir))

	require.Same(t, heir, masterOf(t, c, slot))
	require.NoError(t, c.AwaitWhole())
	require.Equal(t, []*redisserver.Node{old}, c.Replicas(heir))
	require.Equal(t, "v", rdb.Get(t.Context(), tag).Val())
	require.NoError(t, c.Takeover(old))
	require.Same(t, old, masterOf(t, c, slot))
}

// A replica that has not heard yet of a slot that its master has come to is not asked to take its place: it would not claim that slot.
func TestCluster_Failover_waitsForAgreement(t *testing.T) {
	t.Parallel()
	c := redisserver.RunCluster(t, redisserver.ClusterOptions{Links: true})
	master := c.Nodes()[0]
	heir := c.Replicas(master)[0]

	c.Partition(heir)
	require.NoError(t, c.Migrate(slot, master))
	replaced := make(chan error, 1)
	go func() { replaced <- c.Failover(heir) }()
	require.Never(t, func() bool {
		return strings.Contains(heir.Output(), "Manual failover user request accepted")
	}, 300*time.Millisecond, 10*time.Millisecond) // well below what has a node taken for lost
	c.Heal()

	require.NoError(t, <-replaced)
	require.NoError(t, c.AwaitWhole())
	require.Same(t, heir, masterOf(t, c, slot))
	requireLogs(t, heir.Server, "Manual failover user request accepted") // what was waited for
}

// Redis counts the votes of an election again for another that follows soon.
func TestCluster_Failover_toAndFro(t *testing.T) {
	t.Parallel()
	c := redisserver.RunCluster(t, redisserver.ClusterOptions{})
	old := masterOf(t, c, slot)
	heir := c.Replicas(old)[0]
	for _, to := range []*redisserver.Node{heir, old, heir} {
		require.NoError(t, c.AwaitWhole())
		require.NoError(t, c.Failover(to))
	}
	require.NoError(t, c.AwaitWhole())
	require.Same(t, heir, masterOf(t, c, slot))
	require.Equal(t, 2, strings.Count(heir.Output(), "Starting a failover election"))
}

func TestCluster_killedMasterIsReplaced(t *testing.T) {
	t.Parallel()
	c := redisserver.RunCluster(t, redisserver.ClusterOptions{})
	old := masterOf(t, c, slot)
	heir := c.Replicas(old)[0]

	require.NoError(t, old.Kill())
	_, err := c.Master(slot)
	require.ErrorIs(t, err, redisserver.ErrNoMaster)
	require.Eventually(t, func() bool {
		n, err := c.Master(slot)
		return err == nil && n == heir
	}, patience, 50*time.Millisecond)
	others := slices.DeleteFunc(c.Nodes(), func(n *redisserver.Node) bool { return n == old })
	require.NoError(t, c.AwaitAgreement(others...))

	require.NoError(t, old.Restart())
	require.NoError(t, c.AwaitWhole())
	require.Equal(t, []*redisserver.Node{old}, c.Replicas(heir), "it comes back as the replica of its heir")
}

func TestCluster_pausedMasterIsReplaced(t *testing.T) {
	t.Parallel()
	c := redisserver.RunCluster(t, redisserver.ClusterOptions{NodeTimeout: time.Second})
	old := masterOf(t, c, slot)

	require.NoError(t, old.Pause())
	require.Eventually(t, func() bool {
		n, err := c.Master(slot)
		return err == nil && n != old
	}, patience, 50*time.Millisecond)
	require.NoError(t, old.Resume())
	require.NoError(t, c.AwaitWhole())
	require.NotSame(t, old, masterOf(t, c, slot))
}

func TestCluster_Migrate(t *testing.T) {
	t.Parallel()
	c := redisserver.RunCluster(t, redisserver.ClusterOptions{Replicas: -1})
	rdb := c.Client()
	from := masterOf(t, c, slot)
	to := c.Nodes()[(slices.Index(c.Nodes(), from)+1)%3]
	const n = 250
	for i := range n {
		require.NoError(t, rdb.Set(t.Context(), fmt.Sprint(tag, i), i, 0).Err())
	}

	require.NoError(t, c.Migrate(slot, to))

	require.Same(t, to, masterOf(t, c, slot))
	require.NoError(t, c.AwaitWhole())
	require.Equal(t, int64(n), to.Client().ClusterCountKeysInSlot(t.Context(), slot).Val())
	require.Zero(t, from.Client().ClusterCountKeysInSlot(t.Context(), slot).Val())
	require.Equal(t, "7", rdb.Get(t.Context(), tag+"7").Val())
	require.NoError(t, c.Migrate(slot, to), "it is there already")
	require.NoError(t, c.Migrate(slot, from), "and back")
	require.Same(t, from, masterOf(t, c, slot))
}

// A node that has not heard yet that another has come to a slot is handed none of that one's: it would lose it again.
func TestCluster_Migrate_waitsForAgreement(t *testing.T) {
	t.Parallel()
	c := redisserver.RunCluster(t, redisserver.ClusterOptions{Replicas: -1, Links: true})
	nodes := c.Nodes()
	const first = 0 // of nodes[0]

	c.Partition(nodes[2])
	require.NoError(t, c.Migrate(slot, nodes[0]))
	migrated := make(chan error, 1)
	go func() { migrated <- c.Migrate(first, nodes[2]) }()
	select {
	case err := <-migrated:
		t.Errorf("the slot was handed to a node that does not know of the last migration: %v", err)
		migrated <- err
	case <-time.After(300 * time.Millisecond): // well below what has a node taken for lost
	}
	c.Heal()

	require.NoError(t, <-migrated)
	require.NoError(t, c.AwaitWhole())
	require.Same(t, nodes[2], masterOf(t, c, first))
	require.Same(t, nodes[0], masterOf(t, c, slot))
}

// What clients are told half-way.
func TestMigration(t *testing.T) {
	t.Parallel()
	c := redisserver.RunCluster(t, redisserver.ClusterOptions{Replicas: -1})
	from := masterOf(t, c, slot)
	to := c.Nodes()[(slices.Index(c.Nodes(), from)+1)%3]
	here, there := from.Client(), to.Client()
	for _, key := range []string{"1", "2"} {
		require.NoError(t, here.Set(t.Context(), tag+key, key, 0).Err())
	}
	ask := fmt.Sprintf("ASK %d %s", slot, to.Addr())
	moved := fmt.Sprintf("MOVED %d %s", slot, to.Addr())

	m, err := c.BeginMigration(slot, to)
	require.NoError(t, err)
	require.Equal(t, "1", here.Get(t.Context(), tag+"1").Val())
	require.EqualError(t, here.Del(t.Context(), tag+"absent").Err(), ask)
	n, err := m.MoveKeys(1)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.ErrorContains(t, here.MGet(t.Context(), tag+"1", tag+"2").Err(), "TRYAGAIN")
	require.NoError(t, m.Abort())
	require.NoError(t, here.Del(t.Context(), tag+"absent").Err())

	m, err = c.BeginMigration(slot, to)
	require.NoError(t, err)
	n, err = m.MoveKeys(100)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.NoError(t, m.Hand())
	require.Equal(t, "2", there.Get(t.Context(), tag+"2").Val())
	require.NoError(t, m.Tell())
	require.EqualError(t, here.Get(t.Context(), tag+"1").Err(), moved)
	require.NoError(t, m.Finish(), "finishing twice")
}

func TestCluster_Partition(t *testing.T) {
	t.Parallel()
	c := redisserver.RunCluster(t, redisserver.ClusterOptions{Links: true, NodeTimeout: time.Second})
	old := masterOf(t, c, slot)
	heir := c.Replicas(old)[0]

	c.Partition(old)

	require.Eventually(t, func() bool {
		n, err := c.Master(slot)
		return err == nil && n == heir
	}, patience, 50*time.Millisecond, "the majority must elect its replica")
	require.Eventually(t, func() bool {
		err := old.Client().Get(t.Context(), tag).Err()
		return err != nil && redis.HasErrorPrefix(err, "CLUSTERDOWN")
	}, patience, 50*time.Millisecond, "without the others it must refuse everything")
	c.Heal()
	require.NoError(t, c.AwaitWhole())
	require.Equal(t, []*redisserver.Node{old}, c.Replicas(heir))
}

func TestCluster_Announce(t *testing.T) {
	t.Parallel()
	var told string
	c := redisserver.RunCluster(t, redisserver.ClusterOptions{Masters: 1, Replicas: -1, Announce: func(addr string) (string, error) {
		told = addr
		return "4711", nil
	}})
	n := c.Nodes()[0]
	requireAnnounced := func() {
		nodes, err := n.Client().ClusterNodes(t.Context()).Result()
		require.NoError(t, err)
		require.Contains(t, nodes, "127.0.0.1:4711@")
	}
	require.Equal(t, n.Addr(), told)
	requireAnnounced()
	require.NoError(t, n.Kill())
	require.NoError(t, n.Restart())
	requireAnnounced()
}

func TestRunCluster_cleanup(t *testing.T) {
	t.Parallel()
	redisserver.Need(t)
	var tb failing
	c := redisserver.RunCluster(&tb, redisserver.ClusterOptions{Masters: 1, Replicas: -1, Links: true})
	require.Len(t, tb.cleanups, 1)

	tb.cleanups[0]()

	require.ErrorIs(t, c.Nodes()[0].Kill(), redisserver.ErrClosed)
	require.Len(t, tb.logs, 1, "the nodes' output must be logged")
	require.Nil(t, redisserver.RunCluster(&tb, redisserver.ClusterOptions{Args: []string{"--no-such-option", "1"}}))
	require.True(t, tb.fatal)
}

func masterOf(t *testing.T, c *redisserver.Cluster, slot int) *redisserver.Node {
	t.Helper()
	var n *redisserver.Node
	require.Eventually(t, func() bool {
		var err error
		n, err = c.Master(slot)
		return err == nil
	}, patience, 20*time.Millisecond)
	return n
}
