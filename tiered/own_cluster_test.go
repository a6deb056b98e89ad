package tiered

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/partition"
	"github.com/tandemcache/tandem/tests/redisserver"
)

// ownCluster is a real cluster for one test, which breaks it.
func ownCluster(t *testing.T, opts redisserver.ClusterOptions) *redisserver.Cluster {
	t.Helper()
	opts.Args = append(opts.Args, "--cluster-require-full-coverage", "no")
	return redisserver.RunCluster(t, opts)
}

func clientOf(t *testing.T, nodes *redisserver.Cluster, change func(*redis.ClusterOptions)) *redis.ClusterClient {
	t.Helper()
	opt := &redis.ClusterOptions{Addrs: nodes.Addrs()}
	if change != nil {
		change(opt)
	}
	rdb := redis.NewClusterClient(opt)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func namesOf(t *testing.T, name string, n int) naming {
	t.Helper()
	table, err := partition.New(n)
	require.NoError(t, err)
	return naming{cache: name, table: table}
}

func slotOf(redisKey string) int {
	if _, rest, ok := strings.Cut(redisKey, "{"); ok {
		tag, _, _ := strings.Cut(rest, "}")
		return partition.Slot(tag)
	}
	return partition.Slot(redisKey)
}

func masterOf(t *testing.T, nodes *redisserver.Cluster, redisKey string) *redisserver.Node {
	t.Helper()
	n, err := nodes.Master(slotOf(redisKey))
	require.NoError(t, err)
	return n
}

// keyOn is a key whose entry n has.
func keyOn(t *testing.T, nodes *redisserver.Cluster, names naming, n *redisserver.Node, skip int) string {
	t.Helper()
	for i := range 1000 {
		key := fmt.Sprint("key-", i)
		if masterOf(t, nodes, names.entry(key)) == n {
			if skip--; skip < 0 {
				return key
			}
		}
	}
	t.Fatal("no key")
	return ""
}

func otherThan(all []*redisserver.Node, not ...*redisserver.Node) *redisserver.Node {
	for _, n := range all {
		if !slices.Contains(not, n) {
			return n
		}
	}
	return nil
}

// split is a cluster of which one master is parted from the others, and takes writes still when its replica has its slots.
type split struct {
	nodes   *redisserver.Cluster
	names   naming
	old, by *redisserver.Node
	key     string
	rdb     *redis.ClusterClient
	refuse  atomic.Bool // new connections to old
}

func newSplit(t *testing.T) *split {
	t.Helper()
	s := &split{nodes: ownCluster(t, redisserver.ClusterOptions{Links: true, NodeTimeout: time.Minute}), names: namesOf(t, "things", DefaultPartitions)}
	s.old = s.nodes.Nodes()[1]
	s.by = s.nodes.Replicas(s.old)[0]
	require.NotSame(t, s.old, masterOf(t, s.nodes, "tandem:things:layout"), "choose another name")
	s.key = keyOn(t, s.nodes, s.names, s.old, 0)
	s.rdb = clientOf(t, s.nodes, func(o *redis.ClusterOptions) {
		o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr == s.old.Addr() && s.refuse.Load() {
				return nil, errors.New("refused")
			}
			var d net.Dialer
			return d.DialContext(ctx, network, addr)
		}
	})
	return s
}

// part has the replica take over, without the old master knowing.
func (s *split) part(t *testing.T) {
	t.Helper()
	entry := s.names.entry(s.key)
	require.Eventually(t, func() bool {
		rdb := redis.NewClient(&redis.Options{Addr: s.by.Addr()})
		defer func() { _ = rdb.Close() }()
		n, err := rdb.Do(t.Context(), "DBSIZE").Int64()
		m, _ := s.old.Client().DBSize(t.Context()).Result()
		return err == nil && n == m
	}, 20*time.Second, 50*time.Millisecond)
	s.nodes.Partition(s.old)
	require.NoError(t, s.nodes.Takeover(s.by))
	n, err := s.by.Client().Exists(t.Context(), entry).Result()
	require.NoError(t, err)
	require.EqualValues(t, 1, n, "the old value is on the new master")
}

// lead has the cache find the new master: it hears nothing of the old one any more, but its other connections there work.
func (s *split) lead(t *testing.T) {
	t.Helper()
	s.refuse.Store(true)
	require.NoError(t, s.old.Client().ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err())
}

// beats waits for heartbeats of the key's partition.
func (s *split) beats(t *testing.T, c *Cache[string], n int) {
	t.Helper()
	sent := func() int64 { t, _ := gateOf(c, s.key).known(); return t.sent }
	for range n {
		last := sent()
		require.Eventually(t, func() bool { return sent() != last }, 10*time.Second, time.Millisecond)
	}
}
