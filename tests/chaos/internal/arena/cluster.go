//go:build linux

package arena

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/tests/chaos/internal/proxy"
	"github.com/tandemcache/tandem/tests/redisserver"
)

// nodeTimeout is cluster-node-timeout: below any MaxStaleness, as a master that is cut off goes on for so long.
const nodeTimeout = time.Second

// Cluster is a Redis Cluster of three masters with a replica each. Each node announces the address of a proxy: that is where
// its replicas find it, and nobody else. Instances translate it to a proxy of their own, and know no other address.
type Cluster struct {
	*redisserver.Cluster

	inward []*proxy.Proxy // by node
}

func openCluster() (*Cluster, error) {
	c := &Cluster{}
	var err error
	c.Cluster, err = redisserver.StartCluster(redisserver.ClusterOptions{
		NodeTimeout: nodeTimeout,
		Links:       true,
		Announce:    c.announce,
		Args: []string{
			"--cluster-require-full-coverage", "no",
			"--cluster-allow-replica-migration", "no", // a master without a replica is to stay one
			"--min-replicas-to-write", "1", "--min-replicas-max-lag", "1",
		},
	})
	if err == nil {
		err = c.Whole()
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *Cluster) announce(addr string) (string, error) {
	p, err := proxy.New(addr)
	if err != nil {
		return "", err
	}
	c.inward = append(c.inward, p)
	_, port, err := net.SplitHostPort(p.Addr())
	return port, err
}

// addresses returns what an instance with these proxies is told: the nodes as they call themselves, and where it really dials.
func (c *Cluster) addresses(own []*proxy.Proxy) (nodes []string, route map[string]string) {
	route = map[string]string{}
	for i, p := range c.inward {
		nodes = append(nodes, p.Addr())
		route[p.Addr()] = own[i].Addr()
	}
	return nodes, route
}

// Part cuts some nodes off from the others, on the nodes' own connections and where one replicates from another.
func (c *Cluster) Part(side ...*redisserver.Node) {
	near := map[*redisserver.Node]bool{}
	for _, n := range side {
		near[n] = true
	}
	for i, master := range c.Nodes() {
		for _, replica := range c.Replicas(master) {
			if near[replica] != near[master] {
				c.inward[i].Set(proxy.AnyKind, proxy.Both, proxy.Rule{Hold: true})
			}
		}
	}
	c.Partition(side...)
}

// Whole ends what Part, Partition, Alone and NoElections began, and waits until all is well.
func (c *Cluster) Whole() error {
	c.Heal()
	var errs []error
	for _, p := range c.inward {
		errs = append(errs, p.Pass())
	}
	errs = append(errs, c.AwaitWhole(),
		await(func() error { return c.minReplicas("1", c.Nodes()...) }), await(func() error { return c.elections("no") }))
	for _, n := range c.Masters() {
		errs = append(errs, await(func() error { return c.writable(n) }))
	}
	return errors.Join(errs...)
}

// writable returns an error if a master does not take writes for want of a replica.
func (c *Cluster) writable(n *redisserver.Node) error {
	return c.With(n, func(ctx context.Context, rdb *redis.Client) error {
		info, err := rdb.Info(ctx, "replication").Result()
		if err == nil && strings.Contains(info, "min_slaves_good_slaves:0") {
			err = fmt.Errorf("%s has no good replica", n.Addr())
		}
		return err
	})
}

// await repeats what may fail while the machine or Redis is busy.
func await(f func() error) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if err := f(); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// Sever cuts instances off from nodes: those on the near side from all but these, those on the far side from these.
func (a *Arena) Sever(side ...*redisserver.Node) {
	for _, s := range a.Slots {
		for i, n := range a.Cluster.Nodes() {
			if isNear(s.Index) != slices.Contains(side, n) {
				s.Proxies[i].Set(proxy.AnyKind, proxy.Both, proxy.Rule{Hold: true})
			}
		}
	}
}

// With runs f with a client of one node, connected past the proxies.
func (c *Cluster) With(n *redisserver.Node, f func(context.Context, *redis.Client) error) error {
	return with(n.Server, f)
}

// Alone has nodes take writes without a replica, as those do that have more of them, until they start again or all is Whole.
func (c *Cluster) Alone(nodes ...*redisserver.Node) error { return c.minReplicas("0", nodes...) }

func (c *Cluster) minReplicas(n string, nodes ...*redisserver.Node) error {
	return c.configure("min-replicas-to-write", n, nodes...)
}

// NoElections has no replica take the place of a master that it does not hear of, until all is Whole.
func (c *Cluster) NoElections() error { return c.elections("yes") }

func (c *Cluster) elections(no string) error {
	return c.configure("cluster-replica-no-failover", no, c.Nodes()...)
}

func (c *Cluster) configure(name, value string, nodes ...*redisserver.Node) error {
	var errs []error
	for _, node := range nodes {
		errs = append(errs, c.With(node, func(ctx context.Context, rdb *redis.Client) error {
			return rdb.ConfigSet(ctx, name, value).Err()
		}))
	}
	return errors.Join(errs...)
}

// AwaitHeir waits until a replica has taken its master's place.
func (c *Cluster) AwaitHeir(n *redisserver.Node) error {
	return await(func() error {
		if !slices.Contains(c.Masters(), n) {
			return fmt.Errorf("arena: %s is not a master after %v", n.Addr(), patience)
		}
		return nil
	})
}

// Forget has a node come back with nothing when it is killed now: a replica keeps what its master has sent it at first.
func (c *Cluster) Forget(n *redisserver.Node) error {
	return c.With(n, func(ctx context.Context, rdb *redis.Client) error {
		dir, err := rdb.ConfigGet(ctx, "dir").Result()
		if err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(dir["dir"], snapshot)); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	})
}

func (c *Cluster) close() error {
	var err error
	if c.Cluster != nil {
		err = c.Close()
	}
	for _, p := range c.inward {
		p.Close()
	}
	return err
}
