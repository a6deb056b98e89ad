package design

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/ristretto/v2"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"
)

const (
	controlPrefix  = "control:"
	controlChannel = "control:invalidate"
	// controlTimeout is what the control grants Redis, as tandem does by default.
	controlTimeout = 250 * time.Millisecond
)

// control is the design of the textbooks and of most blog posts, as a careful engineer writes it: cache-aside with
// Ristretto before Redis, single-flight around the load, TTLs on everything, timeouts on every command, and a subscriber
// that deletes what others have invalidated. Redis' failures are misses. It keeps to what its parts promise; what it lacks
// is what nobody's textbook mentions.
type control struct {
	rdb     redis.UniversalClient
	sharded bool // rdb is a cluster's
	load    func(ctx context.Context, key int) (Value, error)
	ttl     time.Duration
	local   *ristretto.Cache[string, Value]
	group   singleflight.Group
	pubsub  *redis.PubSub
	done    sync.WaitGroup
	errors  atomic.Uint64
}

func startControl(o Options) (*control, error) {
	local, err := ristretto.NewCache(&ristretto.Config[string, Value]{
		NumCounters: 100_000, MaxCost: 10_000, BufferItems: 64,
	})
	if err != nil {
		return nil, err
	}
	_, sharded := o.Redis.(*redis.ClusterClient)
	c := &control{rdb: o.Redis, sharded: sharded, load: o.Load, ttl: o.TTL, local: local}
	c.pubsub = o.Redis.Subscribe(context.Background(), controlChannel)
	c.done.Go(c.listen)
	return c, nil
}

func (c *control) listen() {
	for m := range c.pubsub.Channel() {
		c.local.Del(m.Payload)
	}
}

// Get implements Instance.
func (c *control) Get(ctx context.Context, key int) (Value, error) {
	name := Key(key)
	if v, ok := c.local.Get(name); ok {
		return v, nil
	}
	got, err, _ := c.group.Do(name, func() (any, error) { return c.fetch(ctx, key, name) })
	if err != nil {
		return Value{}, err
	}
	return got.(Value), nil
}

// GetMany implements Instance.
func (c *control) GetMany(ctx context.Context, keys []int) ([]Value, error) {
	values := make([]Value, len(keys))
	group, ctx := errgroup.WithContext(ctx)
	for i, key := range keys {
		group.Go(func() (err error) {
			values[i], err = c.Get(ctx, key)
			return err
		})
	}
	return values, group.Wait()
}

func (c *control) fetch(ctx context.Context, key int, name string) (Value, error) {
	if v, ok := c.read(ctx, key, name); ok {
		c.local.SetWithTTL(name, v, 1, c.ttl)
		return v, nil
	}
	v, err := c.load(ctx, key)
	if err != nil {
		return Value{}, err
	}
	c.store(ctx, name, v)
	c.local.SetWithTTL(name, v, 1, c.ttl)
	return v, nil
}

func (c *control) read(ctx context.Context, key int, name string) (v Value, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	raw, err := c.rdb.Get(ctx, controlPrefix+name).Bytes()
	if err != nil {
		if !errors.Is(err, redis.Nil) {
			c.errors.Add(1)
		}
		return v, false
	}
	if err := json.Unmarshal(raw, &v); err != nil || v.Key != key {
		return v, false // not ours: load it
	}
	return v, true
}

func (c *control) store(ctx context.Context, name string, v Value) {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	raw, err := json.Marshal(v)
	if err == nil {
		err = c.rdb.Set(ctx, controlPrefix+name, raw, c.ttl).Err()
	}
	if err != nil {
		c.errors.Add(1)
	}
}

// Set implements Instance.
func (c *control) Set(ctx context.Context, v Value) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.change(ctx, v.Key, func(ctx context.Context, p redis.Pipeliner, redisKey string) {
		p.Set(ctx, redisKey, raw, c.ttl)
	})
}

// Invalidate implements Instance.
func (c *control) Invalidate(ctx context.Context, key int) error {
	return c.change(ctx, key, func(ctx context.Context, p redis.Pipeliner, redisKey string) {
		p.Del(ctx, redisKey)
	})
}

func (c *control) change(ctx context.Context, key int, f func(context.Context, redis.Pipeliner, string)) error {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	name := Key(key)
	_, err := c.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		f(ctx, p, controlPrefix+name)
		if !c.sharded {
			p.Publish(ctx, controlChannel, name)
		}
		return nil
	})
	if c.sharded && err == nil {
		err = c.rdb.Publish(ctx, controlChannel, name).Err() // in a slot of its own: no transaction has both
	}
	c.local.Del(name)
	if err != nil {
		c.errors.Add(1)
		return fmt.Errorf("control: %w", err)
	}
	return nil
}

// Health implements Instance. The control cannot tell how it stands.
func (c *control) Health() Health { return Health{Trusted: true, Errors: c.errors.Load()} }

// Close implements Instance.
func (c *control) Close() error {
	err := c.pubsub.Close()
	c.done.Wait()
	c.local.Close()
	return err
}
