package design

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

const dialTimeout = 500 * time.Millisecond

// Address says where an instance finds Redis: a server, a master by way of Sentinels, or a cluster by way of its nodes.
type Address struct {
	Addr string

	MasterName string
	Sentinels  []string

	Nodes []string

	Route map[string]string // where to dial in place of some addresses; in a cluster there are no others
}

// dial dials by the Route.
func (a Address) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	to, ok := a.Route[addr]
	if !ok && len(a.Nodes) > 0 {
		return nil, fmt.Errorf("design: %s is no node of the cluster", addr)
	}
	d := net.Dialer{Timeout: dialTimeout}
	return d.DialContext(ctx, network, cmp.Or(to, addr))
}

// NewClient returns the client of one instance, with the timeouts that a service with a cache sets: go-redis' defaults would
// have the control wait for minutes. tandem makes its own of it.
func NewClient(a Address) redis.UniversalClient {
	if len(a.Nodes) > 0 {
		return redis.NewClusterClient(&redis.ClusterOptions{
			Addrs:                 a.Nodes,
			Dialer:                a.dial,
			DialTimeout:           dialTimeout,
			ReadTimeout:           controlTimeout,
			WriteTimeout:          controlTimeout,
			ContextTimeoutEnabled: true,
			PoolSize:              32,
		})
	}
	if a.MasterName == "" {
		return redis.NewClient(&redis.Options{
			Addr:                  a.Addr,
			DialTimeout:           dialTimeout,
			ReadTimeout:           controlTimeout,
			WriteTimeout:          controlTimeout,
			ContextTimeoutEnabled: true,
			PoolSize:              32,
		})
	}
	return redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName:            a.MasterName,
		SentinelAddrs:         a.Sentinels,
		Dialer:                a.dial,
		DialTimeout:           dialTimeout,
		ReadTimeout:           controlTimeout,
		WriteTimeout:          controlTimeout,
		ContextTimeoutEnabled: true,
		PoolSize:              32,
	})
}
