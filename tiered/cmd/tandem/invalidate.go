package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

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
that are given beside.

In a Redis Cluster it is one step for the keys of a partition. What a node does not take is tried
again for 10s, and what did not get through then is said. What comes after it is not tried, which is
said as well, as it is after an interruption.`,
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
		err = server.use(ctx, func(p *place) error {
			inv.place = p
			return inv.run(ctx, s.in)
		})
		return errors.Join(append(inv.refused, err, inv.report(s, *asJSON))...)
	}
}

// invalidation is one run of the command.
type invalidation struct {
	cache string
	whole bool // the whole cache
	tags  []string
	keys  []string // as given
	stdin bool     // and those on standard input
	place *place

	done    int // keys that were dropped
	tagged  int // tags whose entries were
	refused []error
	failed  []string // keys that were not dropped
	all     bool     // the whole cache was
	nowhere bool     // there was nothing of the cache in the cluster
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
	inv := &invalidation{cache: args[0], tags: tags, whole: all}
	if err := remote.CheckName(inv.cache); err != nil {
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

func (inv *invalidation) run(ctx context.Context, stdin io.Reader) error {
	if inv.whole {
		return inv.dropAll(ctx)
	}
	if err := inv.dropTags(ctx); err != nil {
		return inv.untried(err, inv.keys)
	}
	return inv.drop(ctx, stdin)
}

// drop stops at the first batch of which something did not get through: who it is for has to repeat the rest, too.
func (inv *invalidation) drop(ctx context.Context, stdin io.Reader) error {
	for rest := inv.keys; len(rest) > 0; {
		batch := rest[:min(len(rest), pubsub.MaxKeys)]
		rest = rest[len(batch):]
		if err := inv.dropKeys(ctx, batch); err != nil {
			return inv.untried(err, rest)
		}
	}
	if !inv.stdin {
		return nil
	}
	return inv.dropLines(ctx, stdin)
}

// untried adds to err that it ended the run before these keys, and before standard input.
func (inv *invalidation) untried(err error, keys []string) error {
	inv.failed = append(inv.failed, keys...)
	err = notTried(err, "", keys)
	if inv.stdin {
		err = fmt.Errorf("%w; standard input was not read", err)
	}
	return err
}

func (inv *invalidation) report(s streams, asJSON bool) error {
	if asJSON {
		return writeJSON(s, struct {
			Cache   string `json:"cache"`
			All     bool   `json:"all"`
			Tags    int    `json:"tags"`
			Keys    int    `json:"keys"`
			Failed  int    `json:"failed_keys,omitempty"`
			Nowhere bool   `json:"nothing_there,omitempty"`
		}{inv.cache, inv.all, inv.tagged, inv.done, len(inv.failed), inv.nowhere})
	}
	switch {
	case inv.nowhere:
		printf(s.out, "nothing to invalidate: the cluster has nothing of a cache %s, not even its key tandem:%s:layout\n", inv.cache, inv.cache)
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

// sender is who tells, for the logs of those who hear it.
func sender() string {
	host, err := os.Hostname()
	if err != nil || len(host) > 200 {
		return "shell"
	}
	return "shell@" + host
}
