package remote

import (
	"cmp"
	"context"

	"github.com/tandemcache/tandem/internal/script"
)

// Invalidate deletes the entries of at most MaxBatch keys and publishes message, atomically. In a cluster they are of one
// partition: others are refused (CROSSSLOT), and then nothing has happened.
func (s *Store) Invalidate(ctx context.Context, keys []string, message []byte) error {
	entries := make([]string, len(keys))
	p := s.name(entries, keys)
	return s.run(ctx, invalidateScript, entries, p.channel, message).Err()
}

// name makes entries those of keys, and returns their partition.
func (s *Store) name(entries, keys []string) *part {
	p := &s.keys.parts[0] // of no keys, which Redis refuses
	for i, key := range keys {
		p = s.keys.part(key)
		entries[i] = p.entry(key)
	}
	return p
}

// Invalidation is what InvalidateMany does in one step.
type Invalidation struct {
	Keys    []string // at most MaxBatch, of one partition
	Message []byte
}

// InvalidateMany is Invalidate for several, in one round trip. They may be of several partitions. Each has an error of its own,
// in this order.
func (s *Store) InvalidateMany(ctx context.Context, invs []Invalidation) []error {
	calls := make([]script.Call, len(invs))
	total := 0
	for i, inv := range invs {
		entries := make([]string, len(inv.Keys))
		p := s.name(entries, inv.Keys)
		calls[i] = script.Call{Keys: entries, Args: []any{p.channel, inv.Message}}
		total += len(entries)
	}
	return s.each(ctx, invalidateScript, calls, total)
}

// InvalidateAll starts a new epoch in these partitions and publishes message in each, atomically in each, and in one round trip.
// Entries of the old one stay until their TTL, unread. Each partition has an error of its own, in this order.
func (s *Store) InvalidateAll(ctx context.Context, partitions []int, message []byte) []error {
	calls := make([]script.Call, len(partitions))
	for i, number := range partitions {
		p := &s.keys.parts[number]
		calls[i] = script.Call{Keys: []string{p.epoch}, Args: []any{
			formatEpoch(NewEpoch()), epochTTL.Milliseconds(), p.channel, message,
		}}
	}
	return s.each(ctx, invalidateAllScript, calls, len(calls))
}

// InvalidateTags invalidates the entries of these partitions that have one of at most MaxBatch tags, refuses what loads under
// way would store with one, and publishes message in each, atomically in each, and in one round trip. The entries stay until
// their TTL, unread. Each partition has an error of its own, in this order.
func (s *Store) InvalidateTags(ctx context.Context, partitions []int, tags []string, message []byte) []error {
	calls := make([]script.Call, len(partitions))
	for i, number := range partitions {
		p := &s.keys.parts[number]
		keys := make([]string, 1, 1+len(tags))
		keys[0] = p.epoch
		for _, tag := range tags {
			keys = append(keys, p.tag(tag))
		}
		calls[i] = script.Call{Keys: keys, Args: []any{p.channel, message, formatEpoch(NewEpoch()), epochTTL.Milliseconds()}}
	}
	return s.each(ctx, invalidateTagsScript, calls, len(calls))
}

// each executes a script for each call: one alone by itself, several as one pipeline.
func (s *Store) each(ctx context.Context, sc script.Script, calls []script.Call, entries int) []error {
	out := make([]error, len(calls))
	switch len(calls) {
	case 0:
	case 1:
		out[0] = s.call(ctx, sc, calls[0]).Err()
	default:
		began := s.began()
		for i, cmd := range s.variant(sc).RunMany(ctx, &s.commands, s.client, calls) {
			out[i] = cmd.Err()
		}
		s.over(ctx, opOf(sc), entries, began, cmp.Or(out...))
	}
	return out
}
