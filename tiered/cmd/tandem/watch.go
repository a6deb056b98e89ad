package main

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/remote"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/target"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/watch"
)

func watchCommand() *command {
	return &command{
		name: "watch", args: "[CACHE]", short: "follow the invalidations of a cache, or of all",
		long: `
Prints what is said on the bus of a cache, or of all caches, until it is interrupted: when, which
cache, what (inv: the keys were invalidated; all: the whole cache), and who told. It connects again
when the connection is lost, and says that messages may have been missed.`,
		setup: setupWatch,
	}
}

func setupWatch(flags *flag.FlagSet) runFunc {
	var server redisFlags
	server.define(flags, target.DefaultAddr, "the Redis")
	asJSON := flags.Bool("json", false, "write a line of JSON for each event")
	return func(ctx context.Context, s streams, args []string) error {
		if len(args) > 1 {
			return usagef("it takes one cache or none, not %d", len(args))
		}
		if len(args) == 1 {
			if err := remote.CheckName(args[0]); err != nil {
				return usageError{err}
			}
		}
		return server.use(func(rdb *redis.Client, db int) error {
			subject := watch.All(db)
			if len(args) == 1 {
				var err error
				if subject, err = watch.Cache(args[0], db); err != nil {
					return err
				}
			}
			return follow(ctx, rdb, subject, s, *asJSON)
		})
	}
}

// follow prints what happens until ctx ends or JSON cannot be written: who reads it may have gone.
func follow(ctx context.Context, rdb *redis.Client, subject watch.Subject, s streams, asJSON bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var broken error
	err := watch.Run(ctx, rdb, subject, func(e watch.Event) {
		if !asJSON {
			watch.Print(s.out, e)
			return
		}
		if err := watch.PrintJSON(s.out, e); err != nil && broken == nil {
			broken = fmt.Errorf("writing JSON: %w", err)
			cancel()
		}
	})
	return errors.Join(err, broken)
}
