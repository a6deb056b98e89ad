// Package fleet runs several instances of one cache on one Redis, and breaks their connections on demand.
package fleet

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/remote"
	"github.com/tandemcache/tandem/tiered"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/source"
)

const (
	readyTimeout   = 5 * time.Second
	cleanupTimeout = 10 * time.Second
	cleanupBatch   = 1000
)

// Config says what to run.
type Config struct {
	// Redis says where. Nil: in this process.
	Redis     *redis.Options
	Instances int
	Source    *source.Source
	// Options is for every instance; Load is the source's.
	Options tiered.Options[source.User]
}

// Fleet is the instances of one cache.
type Fleet struct {
	Instances []*Instance
	// Where says which Redis it is, for people.
	Where string

	name   string
	source *source.Source
	redis  *redis.Options
	stop   func() // the embedded Redis

	closing  sync.Once
	closeErr error
}

// Start starts the instances, of a cache with a name of its own, and waits until all hear each other.
func Start(ctx context.Context, cfg Config) (*Fleet, error) {
	f := &Fleet{
		name: "tandem-demo-" + suffix(), source: cfg.Source,
		redis: cfg.Redis, stop: func() {},
	}
	if f.redis == nil {
		var err error
		if f.redis, f.stop, err = embedded(); err != nil {
			return nil, err
		}
		f.Where = "embedded (miniredis)"
	} else {
		f.Where = f.redis.Addr
	}
	if err := f.start(ctx, cfg); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *Fleet) start(ctx context.Context, cfg Config) error {
	if err := f.ping(ctx); err != nil {
		return err
	}
	cfg.Options.Load = cfg.Source.Load
	for index := range cfg.Instances {
		i, err := f.newInstance(index, cfg.Options)
		if err != nil {
			return err
		}
		f.Instances = append(f.Instances, i)
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for _, i := range f.Instances {
		if err := i.Cache.Ready(ctx); err != nil {
			return fmt.Errorf("instance %d is not ready: %w (Redis: %w)", i.Index+1, err, i.Cache.Health().RedisError)
		}
	}
	return nil
}

// ping reports a Redis that cannot be reached at once and in its own words.
func (f *Fleet) ping(ctx context.Context) error {
	rdb := redis.NewClient(copied(f.redis))
	err := rdb.Ping(ctx).Err()
	if err = errors.Join(err, rdb.Close()); err != nil {
		return fmt.Errorf("the Redis at %s: %w", f.redis.Addr, err)
	}
	return nil
}

func (f *Fleet) newInstance(index int, opts tiered.Options[source.User]) (*Instance, error) {
	i := &Instance{Index: index, redisTimeout: cmp.Or(opts.RedisTimeout, tiered.DefaultRedisTimeout)}
	opt := copied(f.redis)
	opt.Dialer = i.lines.track(redis.NewDialer(copied(f.redis)))
	i.rdb = redis.NewClient(opt)
	var err error
	if i.Cache, err = tiered.New(i.rdb, f.name, opts); err != nil {
		return nil, errors.Join(err, i.rdb.Close())
	}
	return i, nil
}

// copied is for go-redis, which writes its defaults into the options that it is given.
func copied(opt *redis.Options) *redis.Options {
	c := *opt
	return &c
}

func suffix() string {
	var b [4]byte
	// crypto/rand.Read does not fail: it ends the process if the system has no randomness.
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// Close ends the instances and removes what they have left in Redis. It may be called more than once.
func (f *Fleet) Close() error {
	f.closing.Do(func() { f.closeErr = f.close() })
	return f.closeErr
}

func (f *Fleet) close() error {
	var errs []error
	for _, i := range f.Instances {
		errs = append(errs, i.Cache.Close(), i.rdb.Close())
	}
	if len(f.Instances) > 0 {
		errs = append(errs, f.cleanUp())
	}
	f.stop()
	return errors.Join(errs...)
}

// cleanUp deletes the keys by name: a SCAN of somebody's Redis could take long.
func (f *Fleet) cleanUp() error {
	keys, err := remote.KeysFor(f.name)
	if err != nil {
		return err
	}
	names := []string{keys.Epoch()}
	for _, key := range f.source.Keys() {
		names = append(names, keys.Entry(key))
	}
	// Those who started the demonstration may have ended it: this is done all the same.
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	rdb := redis.NewClient(copied(f.redis))
	defer func() { _ = rdb.Close() }()
	for len(names) > 0 {
		n := min(cleanupBatch, len(names))
		if err := rdb.Unlink(ctx, names[:n]...).Err(); err != nil {
			return fmt.Errorf("cleaning up at %s: %w", f.redis.Addr, err)
		}
		names = names[n:]
	}
	return nil
}
