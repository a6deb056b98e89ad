package target

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// maxRedirects is how often one command follows a redirection.
const maxRedirects = 3

// ErrDB is returned for a database of a Redis Cluster other than 0.
var ErrDB = errors.New("a Redis Cluster has database 0 and no other")

// DialFunc opens a connection.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// Server is a Redis, or the Redis Cluster that it is a node of.
type Server struct {
	Options *redis.Options
	Cluster bool
}

// Find asks the Redis that opt leads to whether it is in a cluster. The error is ErrDB if it is and opt selects a database.
func Find(ctx context.Context, opt *redis.Options) (Server, error) {
	o := *opt
	o.DB = 0 // a node of a cluster would refuse the connection
	rdb := redis.NewClient(&o)
	defer func() { _ = rdb.Close() }()
	cluster, err := inCluster(ctx, rdb)
	if err == nil && cluster && opt.DB != 0 {
		err = ErrDB
	}
	return Server{Options: opt, Cluster: cluster}, err
}

// inCluster asks in two ways, because who takes a node of a cluster for a single Redis invalidates where nobody reads: a user may
// lack the permission for INFO, which HELLO needs none for, and proxies and servers like Redis know the one or the other.
func inCluster(ctx context.Context, rdb *redis.Client) (bool, error) {
	pipe := rdb.Pipeline()
	hello, info := pipe.Do(ctx, "HELLO"), pipe.Info(ctx, "cluster")
	_, _ = pipe.Exec(ctx) // each command has its own error
	for _, cmd := range []redis.Cmder{hello, info} {
		var refusal redis.Error
		if err := cmd.Err(); err != nil && !errors.As(err, &refusal) {
			return false, err
		}
	}
	return mode(hello.Val()) == "cluster" || strings.Contains(info.Val(), "cluster_enabled:1"), nil
}

// mode is what HELLO says of it: in a map, or with RESP2 in a list of names and values.
func mode(hello any) string {
	switch reply := hello.(type) {
	case map[any]any:
		return fmt.Sprint(reply["mode"])
	case []any:
		for i := 0; i+1 < len(reply); i += 2 {
			if reply[i] == "mode" {
				return fmt.Sprint(reply[i+1])
			}
		}
	}
	return ""
}

// NewClient returns a new client, which is the caller's to close. In a cluster it follows redirections. dial may be nil.
func (s Server) NewClient(dial DialFunc) redis.UniversalClient {
	if s.Cluster {
		return redis.NewClusterClient(s.clusterOptions(dial))
	}
	opt := *s.Options // go-redis writes its defaults into what it is given
	if dial != nil {
		opt.Dialer = dial
	}
	return redis.NewClient(&opt)
}

// clusterOptions are those of the seed that mean something for every node.
func (s Server) clusterOptions(dial DialFunc) *redis.ClusterOptions {
	o := s.Options
	return &redis.ClusterOptions{
		Addrs: []string{o.Addr}, Dialer: dial, MaxRedirects: maxRedirects,
		Protocol: o.Protocol, ClientName: o.ClientName, Username: o.Username, Password: o.Password, TLSConfig: o.TLSConfig,
		DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout, DialerRetries: o.DialerRetries,
		MaxRetries: o.MaxRetries, ContextTimeoutEnabled: o.ContextTimeoutEnabled,
		PoolSize: o.PoolSize, PoolTimeout: o.PoolTimeout, DisableIdentity: o.DisableIdentity, IdentitySuffix: o.IdentitySuffix,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// String is the address, for people.
func (s Server) String() string {
	if s.Options == nil {
		return "Redis"
	}
	if s.Cluster {
		return "the Redis Cluster at " + s.Options.Addr
	}
	return "the Redis at " + s.Options.Addr
}
