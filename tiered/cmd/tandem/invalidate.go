package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/remote"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/target"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/ui"
)

func invalidateCommand() *command {
	return &command{
		name: "invalidate", args: "CACHE KEY... | -tag T | -all", short: "drop keys from Redis and every instance",
		long: `
Drops keys of a cache, from Redis and from every running instance, as Invalidate of the library
does: in one step for up to 1000 keys. It does not matter whether Redis had them. The key - stands
for standard input, one key a line; empty lines do not count. A key that begins with - goes after
--. With -tag it drops every entry that was stored with the tag, as InvalidateTags does, and keys
that are given beside.`,
		setup: setupInvalidate,
	}
}

func setupInvalidate(flags *flag.FlagSet) runFunc {
	var server redisFlags
	server.define(flags, target.DefaultAddr, "the Redis")
	all := flags.Bool("all", false, "drop every key of the cache")
	var tags []string
	flags.Func("tag", "drop the entries with this `tag`; may be given several times", func(tag string) error {
		tags = append(tags, tag)
		return remote.CheckTag(tag)
	})
	asJSON := flags.Bool("json", false, "write JSON")
	return func(ctx context.Context, s streams, args []string) error {
		inv, err := newInvalidation(args, tags, *all)
		if err != nil {
			return err
		}
		err = server.use(func(rdb *redis.Client, db int) error {
			inv.store = remote.New(rdb, remote.Options{Keys: inv.names, DB: db})
			if *all {
				return inv.dropAll(ctx)
			}
			if err := inv.dropTags(ctx); err != nil {
				return err
			}
			return inv.drop(ctx, s.in)
		})
		return errors.Join(append(inv.refused, err, inv.report(s, *asJSON))...)
	}
}

// invalidation is one run of the command.
type invalidation struct {
	cache string
	names remote.Keys
	tags  []string
	keys  []string // as given
	stdin bool     // and those on standard input
	store *remote.Store

	done    int // keys that were dropped
	tagged  int // tags whose entries were
	refused []error
	all     bool // the whole cache was
}

func newInvalidation(args, tags []string, all bool) (*invalidation, error) {
	switch {
	case len(args) == 0:
		return nil, usagef("it takes the name of a cache")
	case all && len(args)+len(tags) > 1:
		return nil, usagef("with -all it takes no keys and no tags")
	case !all && len(args)+len(tags) == 1:
		return nil, usagef("it takes keys, -tag, or -all for the whole cache")
	}
	inv := &invalidation{cache: args[0], tags: tags}
	var err error
	if inv.names, err = remote.KeysFor(inv.cache); err != nil {
		return nil, usageError{err}
	}
	for n, key := range args[1:] {
		if key == "-" {
			inv.stdin = true
			continue
		}
		if err := remote.CheckKey(key); err != nil {
			return nil, usagef("key %d: %w", n+1, err)
		}
		inv.keys = append(inv.keys, key)
	}
	return inv, nil
}

// sender is who tells, for the logs of those who hear it.
func sender() string {
	host, err := os.Hostname()
	if err != nil || len(host) > 200 {
		return "shell"
	}
	return "shell@" + host
}

func (inv *invalidation) dropAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := inv.store.InvalidateAll(ctx, pubsub.Message{Op: pubsub.All, Sender: sender()}.Encode())
	inv.all = err == nil
	return err
}

func (inv *invalidation) dropTags(ctx context.Context) error {
	for _, part := range batches(inv.tags) {
		m := pubsub.Message{Op: pubsub.Tags, Sender: sender(), Keys: part}
		callCtx, cancel := context.WithTimeout(ctx, callTimeout)
		err := inv.store.InvalidateTags(callCtx, part, m.Encode())
		cancel()
		if err != nil {
			return err
		}
		inv.tagged += len(part)
	}
	return nil
}

func (inv *invalidation) drop(ctx context.Context, stdin io.Reader) error {
	if err := inv.dropKeys(ctx, inv.keys); err != nil {
		return err
	}
	if !inv.stdin {
		return nil
	}
	batch := make([]string, 0, pubsub.MaxKeys)
	lines := bufio.NewScanner(stdin)
	for number := 1; lines.Scan(); number++ {
		key := lines.Text()
		if key == "" {
			continue
		}
		if err := remote.CheckKey(key); err != nil {
			// The others are dropped all the same: a key too few is worse than one too many.
			inv.refused = append(inv.refused, fmt.Errorf("line %d: %w", number, err))
			continue
		}
		if batch = append(batch, key); len(batch) == cap(batch) {
			if err := inv.dropKeys(ctx, batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return errors.Join(inv.dropKeys(ctx, batch), lines.Err())
}

func (inv *invalidation) dropKeys(ctx context.Context, keys []string) error {
	for part := range slices.Values(batches(keys)) {
		m := pubsub.Message{Op: pubsub.Invalidate, Sender: sender(), Keys: part}
		callCtx, cancel := context.WithTimeout(ctx, callTimeout)
		err := inv.store.Invalidate(callCtx, part, m.Encode())
		cancel()
		if err != nil {
			return err
		}
		inv.done += len(part)
	}
	return nil
}

func batches(keys []string) [][]string {
	if len(keys) == 0 {
		return nil
	}
	return pubsub.Batches(keys)
}

func (inv *invalidation) report(s streams, asJSON bool) error {
	if asJSON {
		return writeJSON(s, struct {
			Cache string `json:"cache"`
			All   bool   `json:"all"`
			Tags  int    `json:"tags"`
			Keys  int    `json:"keys"`
		}{inv.cache, inv.all, inv.tagged, inv.done})
	}
	switch {
	case inv.all:
		printf(s.out, "invalidated every key of cache %s\n", inv.cache)
	case inv.tagged > 0 && inv.done > 0:
		printf(s.out, "invalidated %s and %s of cache %s\n", ui.Plural(inv.tagged, "tag"), ui.Plural(inv.done, "key"), inv.cache)
	case inv.tagged > 0:
		printf(s.out, "invalidated %s of cache %s\n", ui.Plural(inv.tagged, "tag"), inv.cache)
	case inv.done > 0 || inv.stdin:
		printf(s.out, "invalidated %s of cache %s\n", ui.Plural(inv.done, "key"), inv.cache)
	}
	return nil
}
