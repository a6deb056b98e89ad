package integration

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/partition"
	"github.com/tandemcache/tandem/remote"
	"github.com/tandemcache/tandem/tests/redisserver"
	"github.com/tandemcache/tandem/tiered"
)

// place is where caches run.
type place interface {
	client(t testing.TB) redis.UniversalClient
	name() string // of the caches
}

// server is a single Redis of a test's own.
type server struct{ *redisserver.Server }

func (server) name() string { return "things" }

func (s server) client(t testing.TB) redis.UniversalClient {
	t.Helper()
	return client(t, s)
}

// nodes is a cluster.
type nodes struct {
	*redisserver.Cluster
	cache string
}

func (n nodes) name() string { return n.cache }

func (n nodes) client(t testing.TB) redis.UniversalClient {
	t.Helper()
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: n.Addrs()})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// rig is a place of one kind, with what a test may want of it.
type rig struct {
	place
	keys    remote.Keys
	masters []*redisserver.Server
	publish string // the command
}

// onBoth runs a test on both kinds of Redis.
func onBoth(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Helper()
	t.Run("single", func(t *testing.T) {
		srv := startRedis(t)
		keys, err := remote.KeysFor(srv.name())
		require.NoError(t, err)
		test(t, &rig{place: srv, keys: keys, masters: []*redisserver.Server{srv.Server}, publish: "PUBLISH"})
	})
	t.Run("cluster", func(t *testing.T) { test(t, onSharedCluster(t)) })
}

// sharedCluster is one for all tests that leave it whole, who have caches of their own on it. It takes seconds to start.
var sharedCluster redisserver.SharedCluster

var clusterCaches atomic.Int64

func onSharedCluster(t *testing.T) *rig {
	t.Helper()
	return onCluster(t, sharedCluster.Run(t))
}

// onCluster is the rig of a new cache.
func onCluster(t *testing.T, c *redisserver.Cluster) *rig {
	t.Helper()
	table, err := partition.New(tiered.DefaultPartitions)
	require.NoError(t, err)
	at := nodes{c, fmt.Sprint("things-", clusterCaches.Add(1))}
	keys, err := remote.ClusterKeys(at.cache, table)
	require.NoError(t, err)
	r := &rig{place: at, keys: keys, publish: "SPUBLISH"}
	for _, n := range c.Masters() {
		r.masters = append(r.masters, n.Server)
	}
	require.Len(t, r.masters, 3)
	return r
}

// admins returns a client for each server that takes writes.
func (r *rig) admins(t testing.TB) []*redis.Client {
	t.Helper()
	out := make([]*redis.Client, len(r.masters))
	for i, srv := range r.masters {
		out[i] = client(t, server{srv})
	}
	return out
}

// everywhere runs f with a client of each server that takes writes.
func (r *rig) everywhere(t testing.TB, f func(ctx context.Context, admin *redis.Client) error) {
	t.Helper()
	for _, admin := range r.admins(t) {
		require.NoError(t, f(soon(t), admin))
	}
}

func (r *rig) partitions() uint64 { return uint64(r.keys.Partitions()) }

// instances is the registry in the partition of key.
func (r *rig) instances(key string) string { return r.keys.Instances(r.keys.Partition(key)) }

// channel is that of the partition of key.
func (r *rig) channel(key string) string { return r.keys.Channel(r.keys.Partition(key), 0) }

// size is how many keys the cache has in Redis.
func (r *rig) size(t testing.TB) (n int64) {
	t.Helper()
	name := "tandem:{" + r.name() + "}:*"
	if r.partitions() > 1 {
		name = "tandem:" + r.name() + ":*"
	}
	r.everywhere(t, func(ctx context.Context, admin *redis.Client) error {
		names, err := admin.Keys(ctx, name).Result() // at one instant, where SCAN may return some twice
		n += int64(len(names))
		return err
	})
	return n
}

// versions is how many keys in Redis hold a version of this tag.
func (r *rig) versions(t testing.TB, tag string) (n int64) {
	t.Helper()
	rdb := r.client(t)
	for p := range r.keys.Partitions() {
		n += rdb.Exists(soon(t), r.keys.Tag(p, tag)).Val()
	}
	return n
}

func (r *rig) killSubscribers(t testing.TB) {
	t.Helper()
	r.everywhere(t, func(ctx context.Context, admin *redis.Client) error {
		return admin.ClientKillByFilter(ctx, "TYPE", "pubsub").Err()
	})
}

// master is the address of the server that has the key.
func (r *rig) master(t testing.TB, key string) string {
	t.Helper()
	if len(r.masters) == 1 {
		return r.masters[0].Addr()
	}
	node, err := r.client(t).(*redis.ClusterClient).MasterForKey(soon(t), r.keys.Entry(key))
	require.NoError(t, err)
	return node.Options().Addr
}
