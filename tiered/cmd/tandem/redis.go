package main

import (
	"flag"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

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

func (r *redisFlags) options() (*redis.Options, error) {
	opt, err := target.Parse(r.addr, r.db)
	if err != nil {
		return nil, usageError{err}
	}
	return opt, nil
}

// use calls f with a client and the logical database that it has selected. The errors of f say which Redis it was.
func (r *redisFlags) use(f func(rdb *redis.Client, db int) error) error {
	opt, err := r.options()
	if err != nil {
		return err
	}
	rdb := redis.NewClient(opt)
	defer func() { _ = rdb.Close() }()
	if err := f(rdb, opt.DB); err != nil {
		return fmt.Errorf("the Redis at %s: %w", opt.Addr, err)
	}
	return nil
}
