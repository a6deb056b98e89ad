package design

import (
	"cmp"
	"context"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

const dialTimeout = 500 * time.Millisecond

// Address says where an instance finds Redis: a server, or a master by way of Sentinels.
type Address struct {
	Addr string

	MasterName string
	Sentinels  []string
	Route      map[string]string // where to dial in place of some addresses
}

// NewClient returns the client of one instance, with the timeouts that a service with a cache sets: go-redis' defaults would
// have the control wait for minutes. tandem makes its own of it.
func NewClient(a Address) redis.UniversalClient {
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
		MasterName:    a.MasterName,
		SentinelAddrs: a.Sentinels,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			d := net.Dialer{Timeout: dialTimeout}
			return d.DialContext(ctx, network, cmp.Or(a.Route[addr], addr))
		},
		DialTimeout:           dialTimeout,
		ReadTimeout:           controlTimeout,
		WriteTimeout:          controlTimeout,
		ContextTimeoutEnabled: true,
		PoolSize:              32,
	})
}
