package tiered

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/partition"
	"github.com/tandemcache/tandem/tests/redisserver"
)

// rig is a Redis, of one kind, for the caches of one test. What they send can be stopped and spoiled; what the test itself reads
// and writes goes past that.
type rig interface {
	name() string // of the test's caches

	// client returns a client for one instance.
	client(t testing.TB) redis.UniversalClient

	// intercept has a function see every command of an instance, its name in capitals, before Redis does. An error of it is the
	// answer, io.EOF the end of the connection. It may block, which holds up the connection and no other.
	intercept(hook func(cmd string, args []string) error)
	// down makes every command fail until up, which also ends what intercept began.
	down()
	up()
	// close is a Redis that is not there, until restart.
	close()
	restart()

	// What there is in Redis under these names.
	entry(key string) string
	epoch(key string) string
	tag(key, tag string) string // a tag's version, in the partition of key
	counter(key string) string  // of the invalidations by tag
	channel(key string) string
	partitions() int
	masters() int
	mastersOf(keys ...string) int // how many have them

	exists(name string) bool
	ttl(name string) time.Duration
	del(name string) bool
	set(name, value string)
	hget(name, field string) string // "" if there is none
	hset(name, field, value string)
	publish(key, message string) // in the channel of the key's partition
	eval(script string, keys []string, args ...any)
}

var (
	_ rig = (*redisServer)(nil)
	_ rig = (*clusterRig)(nil)
)

// onBoth runs a test on both kinds of Redis.
func onBoth(t *testing.T, test func(t *testing.T, r rig)) {
	t.Helper()
	t.Run("single", func(t *testing.T) {
		t.Parallel()
		test(t, newRedis(t))
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		test(t, newClusterRig(t))
	})
}

// naming says what a cache has in Redis.
type naming struct {
	cache string
	table partition.Table // the zero Table where all keys are together
}

func (n naming) name() string { return n.cache }

func (n naming) partitions() int { return max(n.table.Count(), 1) }

func (n naming) prefix(key string) string {
	if n.table.Count() == 0 {
		return "tandem:{" + n.cache + "}:"
	}
	return "tandem:" + n.cache + ":{" + n.table.Tag(n.table.Of(key)) + "}:"
}

func (n naming) entry(key string) string    { return n.prefix(key) + "k:" + key }
func (n naming) epoch(key string) string    { return n.prefix(key) + "epoch" }
func (n naming) tag(key, tag string) string { return n.prefix(key) + "t:" + tag }
func (n naming) counter(key string) string  { return n.prefix(key) + "tags" }
func (n naming) channel(key string) string  { return n.prefix(key) + "bus:0" }

// sharedCluster is one for all tests, who have caches of their own on it and leave it as it is. It takes seconds to start.
var sharedCluster redisserver.SharedCluster

// clusterRig is a real cluster, of three masters with a replica each, behind proxies of the test's own.
type clusterRig struct {
	naming
	testing.TB
	admin *redis.ClusterClient
	addrs []string
	hook  atomic.Pointer[func(cmd string, args []string) error]

	mu      sync.Mutex        // protects proxies
	proxies map[string]*proxy // nil at the end of the test
}

func (r *clusterRig) masters() int { return 3 }

func (r *clusterRig) mastersOf(keys ...string) int {
	r.Helper()
	addrs := map[string]bool{}
	for _, key := range keys {
		addrs[r.master(key)] = true
	}
	return len(addrs)
}

// master is the address of the node which has the key.
func (r *clusterRig) master(key string) string {
	r.Helper()
	ctx, cancel := r.asked()
	defer cancel()
	node, err := r.admin.MasterForKey(ctx, r.entry(key))
	require.NoError(r, err)
	return node.Options().Addr
}

var clusterCaches atomic.Int64

func newClusterRig(t testing.TB) *clusterRig {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: a cluster takes seconds to start")
	}
	nodes := sharedCluster.Run(t)
	table, err := partition.New(clusterPartitions)
	require.NoError(t, err)
	r := &clusterRig{
		TB: t, addrs: nodes.Addrs(), proxies: make(map[string]*proxy),
		naming: naming{cache: fmt.Sprint("things-", clusterCaches.Add(1)), table: table},
	}
	r.admin = redis.NewClusterClient(&redis.ClusterOptions{Addrs: r.addrs})
	t.Cleanup(func() {
		require.NoError(t, r.admin.Close())
		r.end()
	})
	return r
}

func (r *clusterRig) client(t testing.TB) redis.UniversalClient {
	t.Helper()
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: r.addrs, Dialer: r.dial})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// dial leads to the node at addr, through its proxy.
func (r *clusterRig) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if !slices.Contains(r.addrs, addr) {
		return nil, fmt.Errorf("%s is no node of the cluster", addr)
	}
	p, err := r.proxy(addr)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	return d.DialContext(ctx, network, p.addr())
}

func (r *clusterRig) proxy(addr string) (*proxy, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.proxies == nil {
		return nil, errors.New("the test is over")
	}
	p := r.proxies[addr]
	if p == nil {
		var err error
		if p, err = newProxy(addr, &r.hook); err != nil {
			return nil, err
		}
		r.proxies[addr] = p
	}
	return p, nil
}

// end also refuses the dials that an instance has given up on and that come late.
func (r *clusterRig) end() {
	r.mu.Lock()
	proxies := r.proxies
	r.proxies = nil
	r.mu.Unlock()
	for _, p := range proxies {
		p.end()
	}
}

func (r *clusterRig) intercept(hook func(cmd string, args []string) error) { r.hook.Store(&hook) }
func (r *clusterRig) down()                                                { r.intercept(func(string, []string) error { return io.EOF }) }
func (r *clusterRig) up()                                                  { r.hook.Store(nil) }

func (r *clusterRig) close()   { r.refuse(true) }
func (r *clusterRig) restart() { r.refuse(false) }

func (r *clusterRig) refuse(refuse bool) {
	r.Helper()
	for _, addr := range r.addrs {
		p, err := r.proxy(addr)
		require.NoError(r, err)
		p.setRefuse(refuse)
	}
}

// close is also called at the end, when the test's context has ended: the others take one of their own.
func (r *clusterRig) asked() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

func (r *clusterRig) exists(name string) bool {
	r.Helper()
	ctx, cancel := r.asked()
	defer cancel()
	n, err := r.admin.Exists(ctx, name).Result()
	require.NoError(r, err)
	return n == 1
}

func (r *clusterRig) ttl(name string) time.Duration {
	r.Helper()
	ctx, cancel := r.asked()
	defer cancel()
	left, err := r.admin.PTTL(ctx, name).Result()
	require.NoError(r, err)
	return max(left, 0)
}

func (r *clusterRig) del(name string) bool {
	r.Helper()
	ctx, cancel := r.asked()
	defer cancel()
	n, err := r.admin.Del(ctx, name).Result()
	require.NoError(r, err)
	return n == 1
}

func (r *clusterRig) set(name, value string) {
	r.Helper()
	ctx, cancel := r.asked()
	defer cancel()
	require.NoError(r, r.admin.Set(ctx, name, value, 0).Err())
}

func (r *clusterRig) hget(name, field string) string {
	r.Helper()
	ctx, cancel := r.asked()
	defer cancel()
	value, err := r.admin.HGet(ctx, name, field).Result()
	if !errors.Is(err, redis.Nil) {
		require.NoError(r, err)
	}
	return value
}

func (r *clusterRig) hset(name, field, value string) {
	r.Helper()
	ctx, cancel := r.asked()
	defer cancel()
	require.NoError(r, r.admin.HSet(ctx, name, field, value).Err())
}

func (r *clusterRig) publish(key, message string) {
	r.Helper()
	ctx, cancel := r.asked()
	defer cancel()
	require.NoError(r, r.admin.SPublish(ctx, r.channel(key), message).Err())
}

func (r *clusterRig) eval(script string, keys []string, args ...any) {
	r.Helper()
	ctx, cancel := r.asked()
	defer cancel()
	require.NoError(r, r.admin.Eval(ctx, script, keys, args...).Err())
}
