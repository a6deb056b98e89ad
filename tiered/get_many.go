package tiered

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/tandemcache/tandem/remote"
)

// maxParts is how many parts of a large GetMany are under way at once.
const maxParts = 4

// LoadManyFunc reads several values from the source. A key that its map lacks is one that the source does not have, which is
// cached as ErrNotFound of a LoadFunc is; what else is in the map is ignored. An error fails all the keys and caches nothing,
// except ErrNotFound (or one that Options.IsNotFound accepts), which says that none of them exists.
//
// It is given 1 to 1000 different keys, in a slice of its own, and must leave the map alone once it has returned it. What is
// said of LoadFunc holds for it: its goroutine and context, Options.LoadTimeout, panics, and reading what was committed last.
type LoadManyFunc[V any] func(ctx context.Context, keys []string) (map[string]V, error)

// one makes a LoadFunc of it.
func (load LoadManyFunc[V]) one(ctx context.Context, key string) (V, error) {
	got, err := load(ctx, []string{key})
	if err != nil {
		var zero V
		return zero, err
	}
	v, ok := got[key]
	if !ok {
		return v, ErrNotFound
	}
	return v, nil
}

// GetMany returns the values of keys: from this process (L1), the rest from Redis in one round trip (L2), and what is missing
// there from one call of Options.LoadMany, which then fills both. Without LoadMany it calls Options.Load for each missing key,
// 16 at a time.
//
// The map has what was found, and is never nil. A key that the source does not have is not in it, and that is no error. Keys
// that are given twice count once. The values are shared with every other caller, as Get's are.
//
// The error joins a *KeysError for each reason, which names the keys that have no answer because of it, beside a map with all
// the others: what Get returns for one key (a loader's error, *PanicError, ErrLoaderExited, ErrLoadTimeout, ErrInvalidKey,
// ErrClosed), and ctx's error for those still on their way when ctx ends. What goes wrong in Redis is never an error: it costs
// a load, and Options.RedisTimeout at most for all the keys together, or for each part of a longer list.
//
// Each key obeys what is promised of Get, one by one: what others are reading or loading already is shared, a key that another
// instance is loading holds nobody up but the caller, and a Set or Invalidate of a key during the load keeps the result of that
// key out of both tiers.
//
// A value past Options.RefreshAfter is returned at once, and refreshed with the others of the call by LoadMany. An expired one
// that stands in under Options.StaleIfError is in the map like any other, and Stats counts it.
//
// Redis and LoadMany are asked for at most 1000 keys at once. A longer list is dealt with in parts, four at a time; who asks for
// one of its keys meanwhile does not wait for the turn of its part. Keep lists short enough for their values to come from Redis
// within Options.RedisTimeout.
func (c *Cache[V]) GetMany(ctx context.Context, keys []string) (map[string]V, error) {
	out := make(map[string]V, len(keys))
	var missing, overdue []string
	var failed failures
	for _, key := range keys {
		e, due := c.local.Lookup(key)
		if due {
			overdue = append(overdue, key)
		}
		switch {
		case e == nil:
			missing = append(missing, key)
		case !e.Absent:
			c.give(out, &failed, key, e.Value, nil)
		}
	}
	c.refreshBatch(ctx, overdue)
	if len(missing) == 0 {
		return out, failed.joined()
	}
	for _, f := range c.flyMany(ctx, missing, &failed) {
		v, err := c.await(ctx, f, false, nil)
		c.give(out, &failed, f.key, v, err)
	}
	return out, failed.joined()
}

// give adds what was found out about key.
func (c *Cache[V]) give(out map[string]V, failed *failures, key string, v V, err error) {
	v, err = c.own(v, err)
	switch {
	case err == nil:
		out[key] = v
	case !errors.Is(err, ErrNotFound):
		failed.add(key, err)
	}
}

// flyMany returns a flight for each different key, of those that can have one.
func (c *Cache[V]) flyMany(ctx context.Context, keys []string, failed *failures) []*flight[V] {
	seen := make(map[string]struct{}, len(keys))
	all := make([]*flight[V], 0, len(keys))
	var own []*flight[V]
	detached := context.WithoutCancel(ctx)
	for _, key := range keys {
		if _, twice := seen[key]; twice {
			continue
		}
		seen[key] = struct{}{}
		err := c.checkCall(key)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			failed.add(key, err)
			continue
		}
		n := &flight[V]{
			key: key, load: c.opts.Load, byCaller: true, waiting: true, ctx: detached, done: make(chan struct{}),
		}
		c.mayEndEarly(n)
		f, leads := c.flights.join(n)
		if f != n {
			c.count.joined.Add(1)
			c.watch.joined(ctx, &f.joiners)
		}
		if leads && n.byCaller {
			own = append(own, f)
		}
		all = append(all, f)
	}
	c.flyTogether(detached, own)
	return all
}

// flyTogether runs flights in parts, but for those that somebody else has begun when the turn of their part comes.
func (c *Cache[V]) flyTogether(ctx context.Context, fs []*flight[V]) {
	parts := slices.Collect(slices.Chunk(fs, remote.MaxBatch))
	for i := range min(len(parts), maxParts) {
		go func() {
			// What the reading of one part has taken of the time for Redis, the next lacks.
			b := c.newBudget()
			defer c.offerSoon(every(parts, i)...)()
			for ; i < len(parts); i += maxParts {
				if mine := c.flights.begin(parts[i]); len(mine) > 0 {
					c.flyPart(ctx, b, mine)
				}
			}
		}()
	}
}

// flyPart runs flights that have begun, and returns when they have ended.
func (c *Cache[V]) flyPart(ctx context.Context, b *budget, fs []*flight[V]) {
	g := &group[V]{c: c, ctx: ctx, budget: b}
	ms := membersOf(fs)
	for _, m := range ms {
		m.overdue = &g.overdue
	}
	var part sync.WaitGroup
	part.Go(func() { g.guard(ms, func() { g.fetch(ms) }) }) // a codec that ends the goroutine ends this part alone
	part.Wait()
}

// every returns what one goroutine deals with, in turn.
func every[T any](parts [][]T, first int) (all []T) {
	for i := first; i < len(parts); i += maxParts {
		all = append(all, parts[i]...)
	}
	return all
}
