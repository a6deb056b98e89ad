package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/partition"
	"github.com/tandemcache/tandem/remote"
)

// layoutFormat is the version of what Layout's key holds: it, a space, and the number of partitions.
const layoutFormat = "1"

var (
	// ErrNoCache is returned for a cache of which the cluster does not say how it is divided.
	ErrNoCache = errors.New("there is no such cache in this cluster")
	// ErrLayout is returned for a division that is of another release, or none.
	ErrLayout = errors.New("the cache is divided in a way that this release does not know")
)

// Keys returns what the cache has in the cluster, or an error that wraps ErrNoCache or ErrLayout and names the key.
func (c *Client) Keys(ctx context.Context, cache string) (remote.Keys, error) {
	// The name of this key does not depend on how the cache is divided.
	whole, err := remote.KeysFor(cache)
	if err != nil {
		return remote.Keys{}, err
	}
	text, err := c.rdb.Get(ctx, whole.Layout()).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return remote.Keys{}, fmt.Errorf("%w: cache %s has no key %s", ErrNoCache, cache, whole.Layout())
	case err != nil:
		return remote.Keys{}, fmt.Errorf("reading %s: %w", whole.Layout(), err)
	}
	format, number, _ := strings.Cut(text, " ")
	n, err := strconv.Atoi(number)
	if err != nil || format != layoutFormat {
		return remote.Keys{}, fmt.Errorf("%w: %s is %.40q", ErrLayout, whole.Layout(), text)
	}
	table, err := partition.New(n)
	if err != nil {
		return remote.Keys{}, fmt.Errorf("%w: %s is %.40q: %w", ErrLayout, whole.Layout(), text, err)
	}
	return remote.ClusterKeys(cache, table)
}

// Division is a way in which a cache is divided, and the partitions in which there may be something of it.
type Division struct {
	Keys       remote.Keys
	Partitions []int // ascending
}

// Has reports whether there may be something in partition p.
func (d Division) Has(p int) bool {
	_, found := slices.BinarySearch(d.Partitions, p)
	return found
}

// Whole is the division of which every partition counts.
func Whole(keys remote.Keys) Division {
	d := Division{Keys: keys, Partitions: make([]int, keys.Partitions())}
	for p := range d.Partitions {
		d.Partitions[p] = p
	}
	return d
}

// Divisions returns where an invalidation that begins now must go. That is how the cluster says that the cache is divided, and
// where it does not say so, wherever there is something of the cache, in whatever division. Nothing is returned where there is
// nothing: no instance and no entry.
//
// That the key of the division is not there does not mean that the cache is not. The key may have been evicted, or lost in a
// failover, and instances go on for a moment until they write it again; or the first instance has invalidated everything and not
// written it yet, and another has loaded an old value in between. To invalidate nothing and call it done would be wrong in all of
// these. But nothing of a partition is read while it has no epoch: what is in Redis agrees with none, a load that is under way is
// not stored because it began in another one, and an instance drops its L1 when its next heartbeat finds that the epoch has
// changed. So one that is not there now, after the source has changed, is as good as an invalidation, and only partitions that
// have one need it.
func (c *Client) Divisions(ctx context.Context, cache string) ([]Division, error) {
	keys, err := c.Keys(ctx, cache)
	if errors.Is(err, ErrNoCache) {
		return c.traces(ctx, cache)
	}
	if err != nil {
		return nil, err
	}
	return []Division{Whole(keys)}, nil
}

// traces returns the partitions with an epoch, of all divisions that there can be.
func (c *Client) traces(ctx context.Context, cache string) ([]Division, error) {
	possible, err := everyDivision(cache)
	if err != nil {
		return nil, err
	}
	pipe := c.rdb.Pipeline()
	found := make([][]*redis.IntCmd, len(possible))
	for i, keys := range possible {
		for p := range keys.Partitions() {
			found[i] = append(found[i], pipe.Exists(ctx, keys.Epoch(p)))
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("looking for epochs of cache %s: %w", cache, err)
	}
	var divisions []Division
	for i, keys := range possible {
		d := Division{Keys: keys}
		for p, exists := range found[i] {
			if exists.Val() > 0 {
				d.Partitions = append(d.Partitions, p)
			}
		}
		if len(d.Partitions) > 0 {
			divisions = append(divisions, d)
		}
	}
	return divisions, nil
}

// everyDivision returns the divisions into any number of partitions, and the one of a cache on a client that does not know of
// the cluster, which works where all of the cache is on the client's node.
func everyDivision(cache string) ([]remote.Keys, error) {
	whole, err := remote.KeysFor(cache)
	if err != nil {
		return nil, err
	}
	all := []remote.Keys{whole}
	for n := partition.Min; n <= partition.Max; n *= 2 {
		table, err := partition.New(n)
		if err != nil {
			return nil, err
		}
		keys, err := remote.ClusterKeys(cache, table)
		if err != nil {
			return nil, err
		}
		all = append(all, keys)
	}
	return all, nil
}
