package redisclient

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// topologyTimeout bounds what go-redis asks a cluster in the background, under a context of its own that never ends: a node that
// stands still would else be waited for in order to learn that another has taken its place. Calls of ours have to be back sooner.
const topologyTimeout = 2 * time.Second

// slots is how many hash slots a cluster has.
const slots = 16384

// Cluster is a client of tandem's own to the nodes of a cluster. It serves to find the node that has a slot, and to get a client
// that leads to this node and nowhere else ([redis.ClusterClient.MasterForKey]). What is sent through it as a whole may be
// redirected. Its methods may be called concurrently.
type Cluster struct {
	*redis.ClusterClient
	conns conns
}

// Reset closes every connection to every node, see [Client.Reset].
func (c *Cluster) Reset() { c.conns.reset() }

// Router returns a new client that knows which node of rdb's cluster has a slot, or an error that wraps ErrUnsupported. The caller
// closes it.
func Router(rdb *redis.ClusterClient) (*Cluster, error) {
	if err := checkCluster(rdb); err != nil {
		return nil, err
	}
	opt := *rdb.Options()
	opt.NewClient = nil // may add hooks, which are not taken over
	opt.ContextTimeoutEnabled = true
	opt.ReadTimeout, opt.WriteTimeout = topologyTimeout, topologyTimeout
	opt.MaxRetries, opt.MaxRedirects = -1, -1
	opt.DialerRetries = 1
	opt.DialTimeout = min(opt.DialTimeout, maxDialTimeout)
	opt.MinIdleConns = 0
	opt.PipelinePoolSize = -1
	opt.AutoPipelineOptions = nil
	opt.PushNotificationProcessor = nil
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	derived := &Cluster{conns: conns{open: make(map[*conn]struct{})}}
	derived.conns.maxBulk.Store(minBulk)
	given := opt.Dialer
	if given == nil {
		given = redis.NewDialer(&redis.Options{DialTimeout: opt.DialTimeout, TLSConfig: opt.TLSConfig})
	}
	var owners patience
	opt.Dialer = derived.conns.dialer(owners.dialing(given))
	opt.OnConnect = owners.connecting(opt.OnConnect)
	opt.CredentialsProviderContext, opt.CredentialsProvider = owners.naming(opt.CredentialsProviderContext, opt.CredentialsProvider), nil
	opt.StreamingCredentialsProvider = owners.streaming(opt.StreamingCredentialsProvider)
	opt.ClusterSlots = owners.finding(opt.ClusterSlots)
	derived.ClusterClient = redis.NewClusterClient(&opt)
	return derived, nil
}

// Node is [Derive] for one node of rdb's cluster: a client to the server at addr, which follows no redirection.
func Node(rdb *redis.ClusterClient, addr string, verify VerifyFunc) (*Client, error) {
	if err := checkCluster(rdb); err != nil {
		return nil, err
	}
	opt, err := nodeOptions(rdb, addr)
	if err != nil {
		return nil, err
	}
	return derive(opt, verify), nil
}

// nodeOptions returns with what options rdb makes its client of a node. go-redis has them nowhere but in such a client; one that is
// told that the cluster is this one node has it, and connects to nothing.
func nodeOptions(rdb *redis.ClusterClient, addr string) (redis.Options, error) {
	opt := *rdb.Options()
	opt.Addrs = []string{addr}
	opt.NewClient = nil
	opt.MinIdleConns = 0
	opt.ClusterSlots = func(context.Context) ([]redis.ClusterSlot, error) {
		return []redis.ClusterSlot{{End: slots - 1, Nodes: []redis.ClusterNode{{Addr: addr}}}}, nil
	}
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	whole := redis.NewClusterClient(&opt)
	defer func() { _ = whole.Close() }()
	client, err := whole.MasterForKey(context.Background(), "")
	if err != nil {
		return redis.Options{}, fmt.Errorf("%w: the options for a node: %w", ErrUnsupported, err)
	}
	node := *client.Options()
	node.Addr, node.NodeAddress = addr, addr // go-redis takes a loopback address for that of a host which it does not know
	return node, nil
}

func checkCluster(rdb *redis.ClusterClient) error {
	if rdb == nil {
		return fmt.Errorf("%w: it is nil; %s", ErrUnsupported, instead)
	}
	if rdb.Options().ReadOnly { // go-redis sets it for RouteByLatency and RouteRandomly
		return fmt.Errorf("%w: it reads from replicas, where what was invalidated may still be; "+
			"leave ReadOnly, RouteByLatency and RouteRandomly unset", ErrUnsupported)
	}
	return nil
}
