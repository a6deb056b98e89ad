package tiered

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/remote"
)

// InvalidateTags drops every entry that has one of these tags from Redis and from every instance, with what Invalidate
// promises for one key. Call it after the source has committed. It takes one round trip for up to 1000 tags, however many
// entries they are: those stay in Redis, unread, until their TTL.
//
// An entry has the tags that [Options].Tags said of the value that is stored; "not found" has none. The cache that calls it
// need not have Options.Tags.
//
// It returns what Invalidate does, with ErrInvalidTag for what are not tags (the others are invalidated).
func (c *Cache[V]) InvalidateTags(ctx context.Context, tags ...string) error {
	if err := c.write(); err != nil {
		return err
	}
	defer c.writes.end()
	valid := make([]string, 0, len(tags))
	var errs []error
	for _, tag := range tags {
		if err := remote.CheckTag(tag); err != nil {
			errs = append(errs, invalidTag(err))
			continue
		}
		valid = append(valid, tag)
	}
	if len(valid) > 0 {
		errs = append(errs, c.invalidateTags(ctx, valid))
	}
	return errors.Join(errs...)
}

// invalidateTags evicts, changes Redis, and evicts again: see invalidate.
func (c *Cache[V]) invalidateTags(ctx context.Context, tags []string) error {
	c.evictTags(tags)
	ctx = c.watch.invalidating(ctx, InvalidationStart{Tags: tags})
	c.count.invalidated.Add(uint64(len(tags)))
	late := c.lateParts()
	failed := make(map[*part]error)
	for _, batch := range pubsub.Batches(tags) {
		var well []*part // after one failure the rest of the part's is left to the background
		for _, p := range c.parts {
			if failed[p] == nil {
				well = append(well, p)
			}
		}
		if len(well) > 0 {
			maps.Copy(failed, c.invalidateTagsRemote(ctx, well, batch))
		}
		for p := range failed {
			// Pending before the second eviction: a Get that starts after it does not believe L2 about these tags.
			p.pending.addTags(batch, time.Now())
		}
	}
	c.evictTags(tags) // the one that counts
	for _, err := range failed {
		c.redisFailed("invalidate tags", err)
	}
	for _, p := range late {
		if failed[p] == nil {
			failed[p] = errLate
		}
	}
	return pendingParts(fmt.Sprintf("InvalidateTags of %d tags", len(tags)), failed)
}

// invalidateTagsRemote gives tags new versions in parts, and returns those of which that is not confirmed.
func (c *Cache[V]) invalidateTagsRemote(ctx context.Context, parts []*part, tags []string) map[*part]error {
	return c.change(ctx, parts, func(ctx context.Context, n *node, shares []share, moves []uint64) []error {
		m := pubsub.Message{Op: pubsub.Tags, Sender: c.sender(ctx, shares[0].part), Keys: tags}
		errs := n.writes.InvalidateTags(ctx, numbers(shares), tags, m.Encode())
		for i, s := range shares {
			if errs[i] == nil && !s.journal.addTags(moves[i], tags) {
				c.count.replayed.Add(uint64(len(tags)))
				s.pending.addTags(tags, time.Now())
			}
		}
		return errs
	})
}

func invalidTag(err error) error { return errors.Join(ErrInvalidTag, fmt.Errorf("tiered: %w", err)) }

// tagsOf returns the tags of a value, each once; an error that wraps ErrInvalidTag if there are none to be had.
func (c *Cache[V]) tagsOf(key string, v V) (tags []string, err error) {
	if c.opts.Tags == nil {
		return nil, nil
	}
	if tags, err = c.callTags(key, v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidTag, err)
	}
	// Theirs may be a slice of the value.
	tags = slices.Clone(tags)
	slices.Sort(tags)
	tags = slices.Compact(tags)
	if err := remote.CheckTags(tags); err != nil {
		return nil, invalidTag(err)
	}
	return tags, nil
}

func (c *Cache[V]) callTags(key string, v V) (tags []string, err error) {
	defer contain("Options.Tags", &err)
	return c.opts.Tags(key, v), nil
}

// label has what f stores carry these tags.
func (c *Cache[V]) label(f *flight[V], tags []string) {
	f.tags = tags
	if len(tags) > 0 {
		c.flights.stamp(f, c.local.Tagged(f.ticket, tags))
	}
}

// labelAlone returns for how long L1 may have what was loaded without a lease; zero for not at all.
func (c *Cache[V]) labelAlone(f *flight[V], v V) time.Duration {
	ttl, err := c.ttlFor(f.key, v, f.ttl)
	var tags []string
	if err == nil && ttl > 0 {
		tags, err = c.tagsOf(f.key, v)
	}
	if err != nil {
		c.unstored(err)
		return 0
	}
	c.label(f, tags)
	return ttl
}

// tellTags has an envelope tell the tags of its value, if this cache knows them.
func (c *Cache[V]) tellTags(e *remote.Envelope, tags []string) {
	if c.opts.Tags != nil && !e.Absent {
		e.Tagged, e.Tags = true, tags
	}
}

// errUntagged is why an entry is not used that another instance has stored without the tags that it should have: nobody could
// invalidate it by them.
var errUntagged = errors.New("stored by an instance without Options.Tags")

// checkTags returns an error for an entry that this cache cannot use because it is known to tell no tags, and reports whether
// its tags allow its use. Which tags it has is known only when it has been read, so that none of them is pending now is not enough:
//
//  1. InvalidateTags is not confirmed, and returns ErrPending;
//  2. a Get reads an entry with the tag from Redis;
//  3. the invalidation is repeated and confirmed, and the tag not pending any more;
//  4. the Get would return the old value.
//
// So no tag may have ceased to be pending since before it was read, which is when cleared was looked at.
func (c *Cache[V]) checkTags(key string, e remote.Envelope, cleared uint64) (ok bool, err error) {
	if c.opts.Tags != nil && !e.Tagged && !e.Absent {
		return false, errUntagged
	}
	if len(e.Tags) == 0 {
		return true, nil
	}
	p := c.part(key).pending
	return !p.hasTag(e.Tags) && p.cleared.Load() == cleared, nil
}
