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
		Load: func(ctx context.Context, key string) (Value, error) { return o.Load(ctx, number(key)) },
		TTL:  o.TTL, LocalTTL: o.TTL,
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

// Get implements Instance.
func (d *tandem) Get(ctx context.Context, key int) (Value, error) { return d.cache.Get(ctx, Key(key)) }

// Set implements Instance.
func (d *tandem) Set(ctx context.Context, v Value) error {
	return translate(d.cache.Set(ctx, Key(v.Key), v))
}

// Invalidate implements Instance.
func (d *tandem) Invalidate(ctx context.Context, key int) error {
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
