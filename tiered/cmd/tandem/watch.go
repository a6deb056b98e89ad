package main

import (
	"context"
	"errors"
	"flag"
	"fmt"

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
when the connection is lost, and says that messages may have been missed.

In a Redis Cluster it listens to every partition at the node that has it, follows those that move,
and says which node it lost, and how many partitions with it. There is no way to listen to all
caches at once there, so without CACHE it looks every second for caches with running instances.`,
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
		cache := "" // all of them
		if len(args) == 1 {
			cache = args[0]
			if err := remote.CheckName(cache); err != nil {
				return usageError{err}
			}
		}
		return server.use(ctx, func(p *place) error {
			if p.cluster != nil {
				return follow(ctx, s, *asJSON, func(ctx context.Context, tell func(watch.Event)) error {
					return watch.RunCluster(ctx, p.cluster, cache, tell)
				})
			}
			subject := watch.All(p.db)
			if cache != "" {
				var err error
				if subject, err = watch.Cache(cache, p.db); err != nil {
					return err
				}
			}
			return follow(ctx, s, *asJSON, func(ctx context.Context, tell func(watch.Event)) error {
				return watch.Run(ctx, p.rdb, subject, tell)
			})
		})
	}
}

// follow prints what happens until ctx ends or JSON cannot be written: who reads it may have gone.
func follow(ctx context.Context, s streams, asJSON bool, run func(context.Context, func(watch.Event)) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var broken error
	err := run(ctx, func(e watch.Event) {
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
