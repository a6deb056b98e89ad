package tiered

import (
	"context"
	"fmt"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/redisclient"
	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/remote"
)

const (
	maxDoubted = 4096 // keys that wait for Redis to be asked about them
	askAtOnce  = 256
)

// foreign drops from L1 what others than tandem have removed from Redis.
//
// Redis tells of every change, of our own as well: of each lease, of each fill. An event names a key and nothing else, so that
// a load whose fill comes back as an event would drop what it has just loaded. Therefore Redis is asked about the keys that
// concern this process, held by L1 or being read: what is still there was put there by an instance, which has told the
// bus; what is not has expired, was invalidated, or was removed by a stranger, and L1 has no business holding it.
//
// A key that has no value but the lease of a load of ours is not lost either: what is read under a lease that is still there
// was read after the removal.
//
// An eviction voids the tickets too, so it does not matter whether it comes before or after what was read is put into L1.
type foreign[V any] struct {
	c       *Cache[V]
	client  *redisclient.Client
	tracker *pubsub.Tracker
	doubted chan string
	leases  sync.Map // of key: the remote.Token under which this process loads it, or is about to
}

func newForeign[V any](c *Cache[V], prefix string) (*foreign[V], error) {
	client, err := c.bus.trackingClient(prefix)
	if err != nil {
		return nil, err
	}
	f := &foreign[V]{c: c, client: client, doubted: make(chan string, maxDoubted)}
	c.spawn(f.ask)
	f.tracker = pubsub.Track(client, pubsub.TrackerOptions{
		Prefix: prefix, Interval: c.opts.MaxStaleness, Changed: f.changed, Missed: c.local.Flush, Logger: c.opts.Logger,
	})
	return f, nil
}

// close is called once the cache's context has ended. It may be called on nil.
func (f *foreign[V]) close() {
	if f == nil {
		return
	}
	f.c.bus.closeTracking(f.client)
	f.tracker.Close()
}

// changed takes what the tracker has heard. Where too much has to be asked about, the rest is dropped unasked.
func (f *foreign[V]) changed(keys []string) {
	for _, key := range keys {
		if remote.CheckKey(key) != nil || (!f.c.local.Holds(key) && !f.c.flights.has(key)) {
			continue
		}
		select {
		case f.doubted <- key:
		default:
			f.drop(key)
		}
	}
}

func (f *foreign[V]) drop(key string) {
	f.c.count.tracked.Add(1)
	f.c.evict(key)
}

// ask asks Redis about the keys that wait, as many at once as there are.
func (f *foreign[V]) ask() {
	for {
		select {
		case <-f.c.ctx.Done():
			return
		case key := <-f.doubted:
			f.judge(f.more([]string{key}))
		}
	}
}

func (f *foreign[V]) more(keys []string) []string {
	for len(keys) < askAtOnce {
		select {
		case key := <-f.doubted:
			keys = append(keys, key)
		default:
			return keys
		}
	}
	return keys
}

// judge drops the keys that Redis does not have, all where it does not say.
func (f *foreign[V]) judge(keys []string) {
	ctx, cancel := context.WithTimeout(f.c.ctx, f.c.opts.RedisTimeout)
	defer cancel()
	present, err := f.c.reads.Present(ctx, keys)
	for i, key := range keys {
		if err != nil || !f.keeps(key, present[i]) {
			f.drop(key)
		}
	}
}

func (f *foreign[V]) keeps(key string, there remote.Presence) bool {
	if there.Value || there.Lease == "" {
		return there.Value
	}
	// What L1 holds was loaded under another lease.
	ours, loading := f.leases.Load(key)
	return loading && ours == there.Lease && !f.c.local.Holds(key)
}

// leasing takes note of a lease before it is asked for, until the function that it returns is called. It may be called on nil.
func (f *foreign[V]) leasing(key string, token remote.Token) (over func()) {
	if f == nil {
		return func() {}
	}
	f.leases.Store(key, token)
	return func() { f.leases.CompareAndDelete(key, token) }
}

// trackingClient returns a client for one tracker. It leads to the server of the heartbeats, as the others do, and follows it.
func (b *Bus) trackingClient(prefix string) (*redisclient.Client, error) {
	track := pubsub.TrackingOn(prefix)
	verify := func(ctx context.Context, cn *redis.Conn) error {
		if err := b.verify(ctx, cn); err != nil {
			return err
		}
		return track(ctx, cn)
	}
	client, err := redisclient.Derive(b.rdb, verify, func(o *redis.Options) { o.Protocol = 2 })
	if err != nil {
		return nil, fmt.Errorf("tiered: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tracking == nil {
		b.tracking = make(map[*redisclient.Client]struct{})
	}
	b.tracking[client] = struct{}{}
	return client, nil
}

func (b *Bus) closeTracking(client *redisclient.Client) {
	b.mu.Lock()
	delete(b.tracking, client)
	b.mu.Unlock()
	_ = client.Close()
}

func (b *Bus) resetTracking() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for client := range b.tracking {
		client.Reset()
	}
}
