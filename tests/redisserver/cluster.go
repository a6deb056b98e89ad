package redisserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/tests/port"
)

const (
	// Slots is how many hash slots a cluster has.
	Slots = 16384

	defaultMasters     = 3
	defaultReplicas    = 1
	defaultNodeTimeout = 2 * time.Second

	clusterTimeout = 60 * time.Second // for whatever a cluster has to agree on
	clusterEvery   = 20 * time.Millisecond
	viewTimeout    = time.Second      // for what a node knows: it may be paused, and is asked again
	nodeTimeout    = 10 * time.Second // for what a node is told, once: a busy machine may take seconds
)

// ErrNoMaster is returned where no node that answers has the slot.
var ErrNoMaster = errors.New("redisserver: no node that answers is master of the slot")

// ClusterOptions configure a cluster. The zero value is three masters with one replica each.
type ClusterOptions struct {
	// Masters is how many nodes have slots at first, in even ranges and in the order of Nodes. Zero means 3; with fewer no
	// replica is ever elected.
	Masters int

	// Replicas is how many each master has at first. Zero means 1, a negative number none.
	Replicas int

	// NodeTimeout is cluster-node-timeout: a master that is not heard of for so long is replaced, about a second later, by a
	// replica, and one that hears of no majority for so long refuses everything. Zero means 2 s; shorter ones make a machine
	// that is busy look like a broken network.
	NodeTimeout time.Duration

	// Args are appended to the command line of each node, as in Options.
	Args []string

	// Links has the nodes talk to one another through this process, so that [Cluster.Partition] can part them.
	Links bool

	// Announce, if not nil, is told where each node listens, before the nodes know one another, and returns the port at which
	// clients and replicas are told to find it instead: that of a proxy on loopback, say. It does not matter to what this package does.
	Announce func(addr string) (port string, err error)
}

// Cluster is a Redis Cluster on loopback. It may be used by several goroutines at once. Whoever started it must close it.
type Cluster struct {
	nodes []*Node
	again time.Duration // see Failover

	mu      sync.Mutex // protects clients
	clients []*redis.ClusterClient
}

// Node is one server of a cluster. One that is killed and started again keeps its id and what it knew of the cluster, and
// comes back without its keys: as it is configured here, Redis saves none.
type Node struct {
	*Server

	id   string
	link *link // nil without ClusterOptions.Links

	asked atomic.Int64 // when the others were last asked to elect it, by the wall clock in ns; zero if they were not
}

// ID returns the node's name in the cluster, 40 hex digits.
func (n *Node) ID() string { return n.id }

// busPort is where other nodes are told to reach this one.
func (n *Node) busPort() string {
	if n.link != nil {
		return n.link.port()
	}
	return strconv.Itoa(n.port.Number + busOffset)
}

// StartCluster starts a cluster and returns once every node says that it is whole. The caller must call Close.
func StartCluster(opts ClusterOptions) (*Cluster, error) {
	if opts.Masters == 0 {
		opts.Masters = defaultMasters
	}
	if opts.Replicas == 0 {
		opts.Replicas = defaultReplicas
	}
	if opts.NodeTimeout == 0 {
		opts.NodeTimeout = defaultNodeTimeout
	}
	c := &Cluster{again: 2 * max(2*opts.NodeTimeout, 2*time.Second)}
	err := c.start(opts)
	if err == nil {
		err = c.join(opts)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// start starts the nodes, which know nothing of one another yet.
func (c *Cluster) start(opts ClusterOptions) error {
	for range opts.Masters * (1 + max(opts.Replicas, 0)) {
		n, err := startNode(opts)
		if n != nil {
			c.nodes = append(c.nodes, n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func startNode(opts ClusterOptions) (*Node, error) {
	n := &Node{}
	args := []string{
		"--cluster-enabled", "yes",
		"--cluster-node-timeout", strconv.FormatInt(opts.NodeTimeout.Milliseconds(), 10),
		"--cluster-announce-ip", port.Loopback,
		"--repl-ping-replica-period", "1",
		"--repl-diskless-sync-delay", "0",
	}
	if opts.Links {
		var err error
		if n.link, err = newLink(); err != nil {
			return nil, err
		}
		args = append(args, "--cluster-announce-bus-port", n.link.port())
	}
	var err error
	if n.Server, err = Start(Options{Args: append(args, opts.Args...)}); err != nil {
		if n.link != nil {
			n.link.close()
		}
		return nil, err
	}
	if n.link != nil {
		n.link.lead(net.JoinHostPort(port.Loopback, strconv.Itoa(n.port.Number+busOffset)))
	}
	if opts.Announce != nil {
		if err := n.announce(opts.Announce); err != nil {
			return n, err
		}
	}
	err = n.do(func(ctx context.Context, rdb *redis.Client) (err error) {
		n.id, err = rdb.ClusterMyID(ctx).Result()
		return err
	})
	return n, err
}

// announce has the node say that it is at another port, also when it starts again.
func (n *Node) announce(where func(string) (string, error)) error {
	const option = "cluster-announce-port"
	port, err := where(n.Addr())
	if err != nil {
		return err
	}
	n.opts.Args = append(slices.Clip(n.opts.Args), "--"+option, port)
	return n.do(func(ctx context.Context, rdb *redis.Client) error {
		return rdb.ConfigSet(ctx, option, port).Err()
	})
}

// join makes a cluster of the nodes.
func (c *Cluster) join(opts ClusterOptions) error {
	for i, n := range c.nodes {
		if err := n.do(func(ctx context.Context, rdb *redis.Client) error {
			// Epochs of their own from the beginning: else the nodes take some time to sort them out.
			if err := rdb.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
				return err
			}
			if i >= opts.Masters {
				return nil
			}
			return rdb.ClusterAddSlotsRange(ctx, i*Slots/opts.Masters, (i+1)*Slots/opts.Masters-1).Err()
		}); err != nil {
			return err
		}
	}
	first := c.nodes[0]
	for _, n := range c.nodes[1:] {
		if err := n.do(func(ctx context.Context, rdb *redis.Client) error {
			return rdb.Do(ctx, "CLUSTER", "MEET", port.Loopback, strconv.Itoa(first.port.Number), first.busPort()).Err()
		}); err != nil {
			return err
		}
	}
	for i, n := range c.nodes[opts.Masters:] {
		master := c.nodes[i%opts.Masters]
		if err := c.await(func() error { return n.replicate(master) }); err != nil {
			return err
		}
	}
	return c.AwaitWhole()
}

// replicate fails as long as n has not heard of the master.
func (n *Node) replicate(master *Node) error {
	return n.do(func(ctx context.Context, rdb *redis.Client) error {
		return rdb.ClusterReplicate(ctx, master.id).Err()
	})
}

// Nodes returns all nodes: those who were masters first, in the order of their slots, then a replica of each in the same order,
// then the next one of each.
func (c *Cluster) Nodes() []*Node { return slices.Clone(c.nodes) }

// Addrs returns the addresses of all nodes.
func (c *Cluster) Addrs() []string {
	addrs := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		addrs[i] = n.Addr()
	}
	return addrs
}

// Client returns a new client with go-redis' default options, which knows all addresses. Close closes it, if the caller has not.
func (c *Cluster) Client() *redis.ClusterClient {
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs()})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clients = append(c.clients, rdb)
	return rdb
}

// Close kills the nodes, and closes the clients that Client made. Closing twice is allowed.
func (c *Cluster) Close() error {
	c.mu.Lock()
	for _, rdb := range c.clients {
		_ = rdb.Close() // the caller may have closed it
	}
	c.clients = nil
	c.mu.Unlock()
	var errs []error
	for _, n := range c.nodes {
		if n.link != nil {
			n.link.close()
		}
		errs = append(errs, n.Close())
	}
	return errors.Join(errs...)
}

// do runs f with a client that asks once, of a node that is believed to live.
func (n *Node) do(f func(context.Context, *redis.Client) error) error {
	return n.within(nodeTimeout, f)
}

// within is do with another patience.
func (n *Node) within(timeout time.Duration, f func(context.Context, *redis.Client) error) error {
	rdb := redis.NewClient(&redis.Options{
		Addr: n.Addr(), MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true,
		DialTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout,
	})
	defer func() { _ = rdb.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := f(ctx, rdb); err != nil {
		return fmt.Errorf("redisserver: node %s: %w", n.Addr(), err)
	}
	return nil
}

// await calls f until it succeeds, or returns its last error.
func (c *Cluster) await(f func() error) error {
	deadline := time.Now().Add(clusterTimeout)
	for {
		err := f()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("redisserver: not after %v: %w", clusterTimeout, err)
		}
		time.Sleep(clusterEvery)
	}
}
