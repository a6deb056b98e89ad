package design

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tandemcache/tandem/tiered"
)

type tandem struct {
	cache *tiered.Cache[Value]
}

func startTandem(o Options) (*tandem, error) {
	c, err := tiered.New(o.Redis, cacheName, tiered.Options[Value]{
		Load:     func(ctx context.Context, key string) (Value, error) { return o.Load(ctx, number(key)) },
		LoadMany: loadMany(o),
		Tags:     tags,
		TTL:      o.TTL, LocalTTL: o.TTL,
		MaxStaleness: o.MaxStaleness,
		LoadTimeout:  time.Minute, // longer than a process is stopped: a load that it was in the middle of did take that long
		LocalBytes:   8 << 20,
		Logger:       o.Logger,
	})
	if err != nil {
		return nil, err
	}
	return &tandem{cache: c}, nil
}

func loadMany(o Options) tiered.LoadManyFunc[Value] {
	if o.LoadMany == nil {
		return nil
	}
	return func(ctx context.Context, keys []string) (map[string]Value, error) {
		numbers := make([]int, len(keys))
		for i, key := range keys {
			numbers[i] = number(key)
		}
		values, err := o.LoadMany(ctx, numbers)
		found := make(map[string]Value, len(values))
		for _, v := range values {
			found[Key(v.Key)] = v
		}
		return found, err
	}
}

func tags(_ string, v Value) []string {
	if tag, ok := tag(v.Key); ok {
		return []string{tag}
	}
	return nil
}

// Get implements Instance.
func (d *tandem) Get(ctx context.Context, key int) (Value, error) { return d.cache.Get(ctx, Key(key)) }

// GetMany implements Instance.
func (d *tandem) GetMany(ctx context.Context, keys []int) ([]Value, error) {
	names := make([]string, len(keys))
	for i, key := range keys {
		names[i] = Key(key)
	}
	found, err := d.cache.GetMany(ctx, names)
	values := make([]Value, len(keys))
	for i, name := range names {
		v, ok := found[name]
		if !ok && err == nil {
			err = fmt.Errorf("%s is not in the answer: %w", name, tiered.ErrNotFound)
		}
		values[i] = v
	}
	return values, err
}

// Set implements Instance.
func (d *tandem) Set(ctx context.Context, v Value) error {
	return translate(d.cache.Set(ctx, Key(v.Key), v))
}

// Invalidate implements Instance: by the key's tag if it has one.
func (d *tandem) Invalidate(ctx context.Context, key int) error {
	if tag, ok := tag(key); ok {
		return translate(d.cache.InvalidateTags(ctx, tag))
	}
	return translate(d.cache.Invalidate(ctx, Key(key)))
}

func translate(err error) error {
	if errors.Is(err, tiered.ErrPending) {
		return fmt.Errorf("%w: %w", ErrPending, err)
	}
	return err
}

// Health implements Instance.
func (d *tandem) Health() Health {
	h, s := d.cache.Health(), d.cache.Stats()
	out := Health{
		Trusted: h.LocalTrusted && h.RemoteTrusted && !h.BreakerOpen,
		Pending: h.PendingKeys, Sessions: s.Sessions, Errors: s.RedisErrors,
	}
	if h.PendingAll {
		out.Pending++
	}
	return out
}

// Close implements Instance.
func (d *tandem) Close() error { return translate(d.cache.Close()) }
