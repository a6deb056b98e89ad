// Package cluster finds what a cache has in a Redis Cluster, and sends what is for a partition to the node that has it.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/redisclient"
)

// Client knows the nodes of a cluster. Its methods may be called concurrently.
type Client struct {
	rdb    *redis.ClusterClient
	router *redisclient.Cluster

	mu    sync.Mutex // protects what follows
	nodes map[string]*redisclient.Client
}

// New returns a Client to the cluster of rdb, which stays the caller's.
func New(rdb *redis.ClusterClient) (*Client, error) {
	router, err := redisclient.Router(rdb)
	if err != nil {
		return nil, err
	}
	return &Client{rdb: rdb, router: router, nodes: make(map[string]*redisclient.Client)}, nil
}

// Close closes the connections.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	errs := []error{c.router.Close()}
	for _, node := range c.nodes {
		errs = append(errs, node.Close())
	}
	clear(c.nodes)
	return errors.Join(errs...)
}

// Owner returns the address of the node that is taken for the master of name's slot.
func (c *Client) Owner(ctx context.Context, name string) (string, error) {
	node, err := c.router.MasterForKey(ctx, name)
	if err != nil {
		return "", fmt.Errorf("finding the node of %q: %w", name, err)
	}
	return node.Options().Addr, nil
}

// Reload has the nodes asked, in the background, who owns what.
func (c *Client) Reload(ctx context.Context) { c.router.ReloadState(ctx) }

// Node returns a client to one node, which follows no redirection. It is the Client's.
func (c *Client) Node(addr string) (*redisclient.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if node := c.nodes[addr]; node != nil {
		return node, nil
	}
	node, err := redisclient.Node(c.rdb, addr, nil)
	if err == nil {
		c.nodes[addr] = node
	}
	return node, err
}
