package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/remote"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/cluster"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/target"
)

// callTimeout bounds what a command that somebody waits for spends on one batch.
const callTimeout = 10 * time.Second

// redisFlags are the flags that say which Redis.
type redisFlags struct {
	addr string
	db   int
}

func (r *redisFlags) define(flags *flag.FlagSet, addr, usage string) {
	flags.StringVar(&r.addr, "redis", addr, usage+": host:port or a redis:// `URL`")
	flags.IntVar(&r.db, "db", -1, "logical `database` (default that of the URL, or 0)")
}

// find asks the Redis what it is.
func (r *redisFlags) find(ctx context.Context) (target.Server, error) {
	opt, err := target.Parse(r.addr, r.db)
	if err != nil {
		return target.Server{}, usageError{err}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	server, err := target.Find(ctx, opt)
	switch {
	case errors.Is(err, target.ErrDB):
		return server, usageError{err}
	case err != nil:
		return server, fmt.Errorf("%v: %w", server, err)
	}
	return server, nil
}

// place is the Redis that a command works on.
type place struct {
	rdb     redis.UniversalClient // follows redirections
	db      int
	cluster *cluster.Client // nil: a single Redis
}

// use calls f with the Redis. The errors of f say which it was.
func (r *redisFlags) use(ctx context.Context, f func(p *place) error) (err error) {
	server, err := r.find(ctx)
	if err != nil {
		return err
	}
	p := &place{rdb: server.NewClient(nil), db: server.Options.DB}
	defer func() { _ = p.rdb.Close() }()
	if rdb, ok := p.rdb.(*redis.ClusterClient); ok {
		if p.cluster, err = cluster.New(rdb); err != nil {
			return err
		}
		defer func() { _ = p.cluster.Close() }()
	}
	if err := f(p); err != nil {
		return fmt.Errorf("%v: %w", server, err)
	}
	return nil
}

// keys are what the cache has in Redis.
func (p *place) keys(ctx context.Context, cache string) (remote.Keys, error) {
	if p.cluster != nil {
		return p.cluster.Keys(ctx, cache)
	}
	return remote.KeysFor(cache)
}

// divisions is where an invalidation must go: see [cluster.Client.Divisions].
func (p *place) divisions(ctx context.Context, cache string) ([]cluster.Division, error) {
	if p.cluster != nil {
		return p.cluster.Divisions(ctx, cache)
	}
	keys, err := remote.KeysFor(cache)
	if err != nil {
		return nil, err
	}
	return []cluster.Division{cluster.Whole(keys)}, nil
}

// each is [cluster.Client.Each], and on a single Redis one call of send.
func (p *place) each(ctx context.Context, keys remote.Keys, at []int, send cluster.SendFunc) []error {
	if p.cluster != nil {
		return p.cluster.Each(ctx, keys, at, send)
	}
	which := make([]int, len(at))
	for i := range which {
		which[i] = i
	}
	return send(ctx, remote.New(p.rdb, remote.Options{Keys: keys, DB: p.db}), which)
}
