package redisclient_test

import (
	"context"
	"crypto/tls"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/partition"
	"github.com/tandemcache/tandem/internal/redisclient"
	"github.com/tandemcache/tandem/tests/redisserver"
)

func TestReadsFromReplicasAreRefused(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]redis.ClusterOptions{
		"ReadOnly":       {ReadOnly: true},
		"RouteByLatency": {RouteByLatency: true},
		"RouteRandomly":  {RouteRandomly: true},
	} {
		rdb := redis.NewClusterClient(&opt)
		_, err := redisclient.Router(rdb)
		require.ErrorIs(t, err, redisclient.ErrUnsupported, name)
		require.ErrorContains(t, err, "leave ReadOnly, RouteByLatency and RouteRandomly unset")
		_, err = redisclient.Node(rdb, "127.0.0.1:1", nil)
		require.ErrorIs(t, err, redisclient.ErrUnsupported, name)
		require.NoError(t, rdb.Close())
	}
	_, err := redisclient.Router(nil)
	require.ErrorIs(t, err, redisclient.ErrUnsupported)
	_, err = redisclient.Node(nil, "127.0.0.1:1", nil)
	require.ErrorIs(t, err, redisclient.ErrUnsupported)
}

func TestNodesOfACluster(t *testing.T) {
	t.Parallel()
	servers := redisserver.RunCluster(t, redisserver.ClusterOptions{Replicas: -1})
	var dialled, verified atomic.Int64
	given := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: servers.Addrs()[:1],
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dialled.Add(1)
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
		MaxRedirects: 7, NewClient: func(*redis.Options) *redis.Client { panic("not taken over") },
	})
	router, err := redisclient.Router(given)
	require.NoError(t, err)
	t.Cleanup(func() { _ = router.Close() })
	require.Zero(t, dialled.Load(), "it connects when it is needed")

	var nodes []*redisclient.Client
	for _, key := range []string{"a", "b", "c", "users"} {
		node, err := servers.Master(partition.Slot(key))
		require.NoError(t, err)
		found, err := router.MasterForKey(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, node.Addr(), found.Options().Addr)

		before := dialled.Load()
		client, err := redisclient.Node(given, found.Options().Addr, func(context.Context, *redis.Conn) error { verified.Add(1); return nil })
		require.NoError(t, err)
		t.Cleanup(func() { _ = client.Close() })
		require.Equal(t, before, dialled.Load(), "it connects when it is needed")
		require.NoError(t, client.Set(t.Context(), key, "v", 0).Err())
		require.Equal(t, before+1, dialled.Load())
		nodes = append(nodes, client)
	}
	require.EqualValues(t, 4, verified.Load())
	client := nodes[0]
	require.ErrorContains(t, client.Get(t.Context(), "b").Err(), "MOVED ", "no redirection is followed")
	ps := client.Subscribe(redisclient.WithoutDial(t.Context()))
	require.Error(t, ps.SSubscribe(redisclient.WithoutDial(t.Context()), "{a}"))
	require.NoError(t, ps.Close())
	require.NoError(t, given.Close(), "it stays its owner's")
	require.NoError(t, client.Get(t.Context(), "a").Err())
	before := client.ClientID(t.Context()).Val()
	client.Reset()
	require.NotEqual(t, before, client.ClientID(t.Context()).Val())
}

// A client of a node has what its owner wants of connections, and of the rest what tandem does.
func TestTheOptionsOfANode(t *testing.T) {
	t.Parallel()
	given := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: []string{"127.0.0.1:1", "127.0.0.1:2"}, ClientName: "app", Username: "u", Password: "p", Protocol: 2, PoolSize: 7,
		MinIdleConns: 3, MaxRetries: 5, TLSConfig: &tls.Config{ServerName: "cluster.example"},
	})
	client, err := redisclient.Node(given, "127.0.0.1:3", nil)
	require.NoError(t, err)
	require.NoError(t, given.Close())
	opt := client.Options()
	require.NoError(t, client.Close())
	require.Equal(t, "127.0.0.1:3", opt.Addr)
	require.Equal(t, []any{"app", "u", "p", 2, 7, "cluster.example"},
		[]any{opt.ClientName, opt.Username, opt.Password, opt.Protocol, opt.PoolSize, opt.TLSConfig.ServerName})
	require.Zero(t, opt.MaxRetries)
	require.Zero(t, opt.MinIdleConns)
	require.True(t, opt.ContextTimeoutEnabled)
	require.LessOrEqual(t, opt.ReadTimeout, time.Duration(0))
}

// The topology is asked for in the background, with nobody's deadline: of a node that stands still no answer comes.
func TestDerivedClusterHearsOfAnHeirWhateverNodeItAsksFirst(t *testing.T) {
	t.Parallel()
	servers := redisserver.RunCluster(t, redisserver.ClusterOptions{
		NodeTimeout: time.Second, Args: []string{"--cluster-require-full-coverage", "no"},
	})
	given := redis.NewClusterClient(&redis.ClusterOptions{Addrs: servers.Addrs()})
	derived, err := redisclient.Router(given)
	require.NoError(t, err)
	t.Cleanup(func() { _ = derived.Close(); _ = given.Close() })
	old, err := derived.MasterForKey(t.Context(), "a")
	require.NoError(t, err)
	node, err := servers.Master(partition.Slot("a"))
	require.NoError(t, err)

	require.NoError(t, node.Pause())
	require.Eventually(t, func() bool {
		derived.ReloadState(t.Context())
		client, err := derived.MasterForKey(t.Context(), "a")
		return err == nil && client != old
	}, 60*time.Second, 10*time.Millisecond)
}

func TestResetOfAClusterClosesTheConnectionsToAllNodes(t *testing.T) {
	t.Parallel()
	servers := redisserver.RunCluster(t, redisserver.ClusterOptions{Replicas: -1})
	given := redis.NewClusterClient(&redis.ClusterOptions{Addrs: servers.Addrs()})
	derived, err := redisclient.Router(given)
	require.NoError(t, err)
	t.Cleanup(func() { _ = derived.Close(); _ = given.Close() })
	ids := func() []int64 {
		var out []int64
		for _, key := range []string{"a", "b", "c"} {
			client, err := derived.MasterForKey(t.Context(), key)
			require.NoError(t, err)
			out = append(out, client.ClientID(t.Context()).Val())
		}
		return out
	}
	before := ids()
	require.Equal(t, before, ids())
	derived.Reset()
	after := ids()
	for i := range before {
		require.NotEqual(t, before[i], after[i])
	}
}
