package tiered

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/redisclient"
	"github.com/tandemcache/tandem/remote"
)

// host is a Redis server as the caches of a process use it: a single Redis, or a node of a cluster.
type host struct {
	addr string // in a cluster
	// data carries reads, leases and fills. control carries heartbeats, Sets, invalidations and the subscription, so that
	// reads in trouble do not hold them up.
	data, control *redisclient.Client
}

// newHost makes the clients of a server; verify looks at each of their connections.
func newHost(addr string, derive func(redisclient.VerifyFunc) (*redisclient.Client, error), data, control redisclient.VerifyFunc) (*host, error) {
	s := &host{addr: addr}
	var err error
	if s.data, err = derive(data); err != nil {
		return nil, fmt.Errorf("tiered: %w", err)
	}
	if s.control, err = derive(control); err != nil {
		return nil, errors.Join(fmt.Errorf("tiered: %w", err), s.data.Close())
	}
	return s, nil
}

// reset closes every connection, to be dialled anew.
func (s *host) reset() {
	s.data.Reset()
	s.control.Reset()
}

func (s *host) close() error { return errors.Join(s.data.Close(), s.control.Close()) }

// hosts are those of a cluster that its hub has asked for, by address.
//
// host returns the clients to the node at addr, and makes them where it is the first time.
func (b *Bus) host(addr string) (*host, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.hosts[addr]; s != nil {
		return s, nil
	}
	if b.ended {
		return nil, ErrClosed
	}
	verify := func(ctx context.Context, cn *redis.Conn) error { return b.verify(ctx, cn, addr) }
	verifyData := func(ctx context.Context, cn *redis.Conn) error { return b.verifyData(ctx, cn, addr) }
	s, err := newHost(addr, func(v redisclient.VerifyFunc) (*redisclient.Client, error) {
		return redisclient.Node(b.cluster, addr, v)
	}, verifyData, verify)
	if err == nil {
		b.hosts[addr] = s
	}
	return s, err
}

// known returns the server at addr, if there is one.
func (b *Bus) known(addr string) *host {
	if b.only != nil {
		return b.only
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.hosts[addr]
}

// forget closes the clients of a node that has not been used for a while.
func (b *Bus) forget(addr string) {
	b.mu.Lock()
	s := b.hosts[addr]
	delete(b.hosts, addr)
	b.mu.Unlock()
	if s != nil {
		_ = s.close()
	}
}

func (b *Bus) hasEnded() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended
}

// keys are the names in Redis of the cache called name.
func (b *Bus) keys(name string) (remote.Keys, error) {
	if b.only != nil {
		return remote.KeysFor(name)
	}
	return remote.ClusterKeys(name, b.table)
}
