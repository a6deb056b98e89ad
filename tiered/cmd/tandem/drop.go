package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/remote"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/cluster"
)

// everywhere calls f for each division of the cache. They are looked up for each batch: a cache may be stopped, and started with
// another division, while a long list of keys comes in. What that invalidates, before its first load, is older than a key that
// comes later.
func (inv *invalidation) everywhere(ctx context.Context, f func(context.Context, cluster.Division) error) (found bool, err error) {
	var divisions []cluster.Division
	err = inTime(ctx, func(ctx context.Context) (err error) {
		divisions, err = inv.place.divisions(ctx, inv.cache)
		return err
	})
	if err != nil {
		return false, err
	}
	inv.nowhere = len(divisions) == 0
	return len(divisions) > 0, inEach(ctx, divisions, f)
}

// inEach goes on after an error, and gives each division time of its own: instances may read in one while another's nodes do not
// answer.
func inEach(ctx context.Context, divisions []cluster.Division, f func(context.Context, cluster.Division) error) error {
	errs := make([]error, len(divisions))
	for i, d := range divisions {
		errs[i] = inTime(ctx, func(ctx context.Context) error { return f(ctx, d) })
	}
	return reasons(errs)
}

func inTime(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return f(ctx)
}

func (inv *invalidation) dropAll(ctx context.Context) error {
	message := pubsub.Message{Op: pubsub.All, Sender: sender()}.Encode()
	found, err := inv.everywhere(ctx, func(ctx context.Context, d cluster.Division) error {
		return inv.inPartitions(ctx, d, "the cache", func(ctx context.Context, store *remote.Store, partitions []int) []error {
			return store.InvalidateAll(ctx, partitions, message)
		})
	})
	inv.all = found && err == nil
	return err
}

func (inv *invalidation) dropTags(ctx context.Context) error {
	all := batches(inv.tags)
	for n, tags := range all {
		message := pubsub.Message{Op: pubsub.Tags, Sender: sender(), Keys: tags}.Encode()
		found, err := inv.everywhere(ctx, func(ctx context.Context, d cluster.Division) error {
			about := "the tags " + list(tags)
			return inv.inPartitions(ctx, d, about, func(ctx context.Context, store *remote.Store, partitions []int) []error {
				return store.InvalidateTags(ctx, partitions, tags, message)
			})
		})
		if err != nil {
			return notTried(err, "the tags ", slices.Concat(all[n+1:]...))
		}
		if found {
			inv.tagged += len(tags)
		}
	}
	return nil
}

// inPartitions does something in each of d's partitions. The error says where it was not done.
func (inv *invalidation) inPartitions(ctx context.Context, d cluster.Division, about string, send cluster.SendFunc) error {
	errs := inv.place.each(ctx, d.Keys, d.Partitions, func(ctx context.Context, store *remote.Store, which []int) []error {
		partitions := make([]int, len(which))
		for n, i := range which {
			partitions[n] = d.Partitions[i]
		}
		return send(ctx, store, partitions)
	})
	failed := slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err == nil })
	switch {
	case len(failed) == 0:
		return nil
	case len(errs) == 1:
		return fmt.Errorf("%s: not invalidated: %w", about, failed[0])
	}
	return fmt.Errorf("%s: not invalidated in %d of %d partitions: %w", about, len(failed), len(errs), reasons(errs))
}

// dropKeys drops at most MaxKeys keys. The error says which it did not drop.
func (inv *invalidation) dropKeys(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	kept := make(map[string]bool) // in any division
	found, err := inv.everywhere(ctx, func(ctx context.Context, d cluster.Division) error {
		some, err := inv.dropIn(ctx, d, keys)
		for _, key := range some {
			kept[key] = true
		}
		return err
	})
	if err == nil {
		if found {
			inv.done += len(keys)
		}
		return nil
	}
	failed := keys
	if found { // else nobody knows where they would be
		failed = slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return !kept[key] })
	}
	inv.done += len(keys) - len(failed)
	failed = unique(failed)
	inv.failed = append(inv.failed, failed...)
	return fmt.Errorf("not invalidated: %s: %w", list(failed), err)
}

// dropIn returns the keys that it did not drop, and why.
func (inv *invalidation) dropIn(ctx context.Context, d cluster.Division, keys []string) (failed []string, err error) {
	steps, at := stepsOf(d, keys)
	errs := inv.place.each(ctx, d.Keys, at, func(ctx context.Context, store *remote.Store, which []int) []error {
		some := make([]remote.Invalidation, len(which))
		for n, i := range which {
			some[n] = remote.Invalidation{
				Keys:    steps[i],
				Message: pubsub.Message{Op: pubsub.Invalidate, Sender: sender(), Keys: steps[i]}.Encode(),
			}
		}
		return store.InvalidateMany(ctx, some)
	})
	for i, err := range errs {
		if err != nil {
			failed = append(failed, steps[i]...)
		}
	}
	return failed, reasons(errs)
}

// stepsOf returns what can be done in one step each, and in which partition.
func stepsOf(d cluster.Division, keys []string) (steps [][]string, at []int) {
	byPartition := make(map[int][]string)
	for _, key := range keys {
		if p := d.Keys.Partition(key); d.Has(p) {
			byPartition[p] = append(byPartition[p], key)
		}
	}
	for p, some := range byPartition {
		for step := range slices.Values(pubsub.Batches(some)) {
			steps, at = append(steps, step), append(at, p)
		}
	}
	return steps, at
}

func batches(keys []string) [][]string {
	if len(keys) == 0 {
		return nil
	}
	return pubsub.Batches(keys)
}

// reasons joins errors, each once, or returns nil.
func reasons(errs []error) error {
	var out error
	seen := make(map[string]bool)
	for _, err := range errs {
		switch {
		case err == nil || seen[err.Error()]:
			continue
		case out == nil:
			out = err
		default:
			out = fmt.Errorf("%w; %w", out, err)
		}
		seen[err.Error()] = true
	}
	return out
}

// notTried adds to err what was not tried because of it, if there is anything.
func notTried(err error, what string, names []string) error {
	if len(names) == 0 {
		return err
	}
	return fmt.Errorf("%w; not tried: %s%s", err, what, list(names))
}

// unique returns the names as they came, each once.
func unique(names []string) []string {
	seen := make(map[string]bool)
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		again := seen[name]
		seen[name] = true
		return again
	})
}

// list is all of them, as they may be given again.
func list(names []string) string {
	var b strings.Builder
	for i, name := range names {
		if i > 0 {
			b.WriteByte(' ')
		}
		if quoted := strconv.Quote(name); quoted != `"`+name+`"` || strings.Contains(name, " ") {
			b.WriteString(quoted)
			continue
		}
		b.WriteString(name)
	}
	return b.String()
}
