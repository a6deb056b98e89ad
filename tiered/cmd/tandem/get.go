package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"

	"github.com/tandemcache/tandem/remote"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/inspect"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/target"
)

func getCommand() *command {
	return &command{
		name: "get", args: "CACHE KEY", short: "what Redis holds for a key",
		long: `
Shows what Redis holds for a key of a cache: for each schema (codec and type) the value, how old it
is and when it expires, whether it is live, its tags, and the lease of an instance that is loading
it. It changes nothing. Instead of CACHE KEY, one argument may be the key as Redis knows it, as in
'tandem:{users}:k:42', or in a cluster 'tandem:users:{1f}:k:42'. A key that begins with - goes after
--. The exit code is 1 if there is nothing.`,
		setup: setupGet,
	}
}

func setupGet(flags *flag.FlagSet) runFunc {
	var server redisFlags
	server.define(flags, target.DefaultAddr, "the Redis")
	asJSON := flags.Bool("json", false, "write JSON")
	return func(ctx context.Context, s streams, args []string) error {
		cache, key, err := cacheAndKey(args)
		if err != nil {
			return err
		}
		literal := ""
		if len(args) == 1 {
			literal = args[0]
		}
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		var entry *inspect.Entry
		err = server.use(ctx, func(p *place) error {
			entry, err = p.read(ctx, cache, key, literal)
			return err
		})
		if err != nil {
			return err
		}
		if *asJSON {
			return writeJSON(s, entry)
		}
		entry.Print(s.out)
		return nil
	}
}

// read returns the entry of key. Literal is how Redis was said to call it, or nothing.
func (p *place) read(ctx context.Context, cache, key, literal string) (*inspect.Entry, error) {
	keys, err := p.keys(ctx, cache)
	if err != nil {
		return nil, err
	}
	if name := keys.Entry(key); literal != "" && name != literal {
		return nil, fmt.Errorf("%q is no key of cache %s, which has %q here", literal, cache, name)
	}
	from := inspect.Source{Redis: p.rdb, Clock: p.rdb, Keys: keys}
	if p.cluster != nil {
		// Times are by the clock of the node that has the entry.
		addr, err := p.cluster.Owner(ctx, keys.Entry(key))
		if err != nil {
			return nil, err
		}
		if from.Clock, err = p.cluster.Node(addr); err != nil {
			return nil, err
		}
	}
	return inspect.Read(ctx, from, cache, key)
}

func cacheAndKey(args []string) (cache, key string, err error) {
	switch len(args) {
	case 1:
		cache, key, err = remote.ParseEntry(args[0])
	case 2:
		cache, key = args[0], args[1]
		if err = remote.CheckName(cache); err == nil {
			err = remote.CheckKey(key)
		}
	default:
		return "", "", usagef("it takes a cache and a key, or the key as Redis knows it, not %d arguments", len(args))
	}
	if err != nil {
		return "", "", usageError{err}
	}
	return cache, key, nil
}

// writeJSON writes one document.
func writeJSON(s streams, v any) error {
	enc := json.NewEncoder(s.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("writing JSON: %w", err)
	}
	return nil
}
