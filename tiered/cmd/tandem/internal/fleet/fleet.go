// Package fleet runs several instances of one cache on one Redis, and breaks their connections on demand.
package fleet

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/remote"
	"github.com/tandemcache/tandem/tiered"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/cluster"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/source"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/target"
)

const (
	readyTimeout   = 5 * time.Second
	cleanupTimeout = 10 * time.Second
	cleanupBatch   = 1000
)

// Config says what to run.
type Config struct {
	// Redis says where. Nil: in this process.
	Redis     *target.Server
	Instances int
	Source    *source.Source
	// Options is for every instance; Load and LeaseWait are the source's.
	Options tiered.Options[source.User]
}

// Fleet is the instances of one cache.
type Fleet struct {
	Instances []*Instance
	// Where says which Redis it is, for people.
	Where string

	name   string
	source *source.Source
	redis  *target.Server
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
		f.Where = f.redis.Options.Addr
		if f.redis.Cluster {
			f.Where += " (cluster)"
		}
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
	// Who waits for less than a load takes loads as well.
	cfg.Options.LeaseWait = cfg.Source.Delay() + tiered.DefaultLeaseWait
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
			return fmt.Errorf("instance %d is not ready: %w", i.Index+1, err)
		}
	}
	return nil
}

// ping reports a Redis that cannot be reached at once and in its own words.
func (f *Fleet) ping(ctx context.Context) error {
	rdb := f.redis.NewClient(nil)
	err := rdb.Ping(ctx).Err()
	if err = errors.Join(err, rdb.Close()); err != nil {
		return fmt.Errorf("%v: %w", f.redis, err)
	}
	return nil
}

func (f *Fleet) newInstance(index int, opts tiered.Options[source.User]) (*Instance, error) {
	i := &Instance{Index: index, redisTimeout: cmp.Or(opts.RedisTimeout, tiered.DefaultRedisTimeout)}
	opt := *f.redis.Options // go-redis writes its defaults into what it is given
	i.rdb = f.redis.NewClient(i.lines.track(redis.NewDialer(&opt)))
	var err error
	if i.Cache, err = tiered.New(i.rdb, f.name, opts); err != nil {
		return nil, errors.Join(err, i.rdb.Close())
	}
	return i, nil
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
	// Those who started the demonstration may have ended it: this is done all the same.
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	rdb := f.redis.NewClient(nil)
	defer func() { _ = rdb.Close() }()
	names, err := f.names(ctx, rdb)
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(names, cleanupBatch) {
		pipe := rdb.Pipeline() // a cluster takes the keys one by one, as their slots differ
		for _, name := range batch {
			pipe.Unlink(ctx, name)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return fmt.Errorf("cleaning up at %v: %w", f.redis, err)
		}
	}
	return nil
}

// names are what the cache has left in Redis. The last is what says how it is divided.
func (f *Fleet) names(ctx context.Context, rdb redis.UniversalClient) ([]string, error) {
	keys, err := f.keys(ctx, rdb)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, key := range f.source.Keys() {
		names = append(names, keys.Entry(key))
	}
	for p := range keys.Partitions() {
		names = append(names, keys.Epoch(p))
	}
	if f.redis.Cluster {
		names = append(names, keys.Layout())
	}
	return names, nil
}

func (f *Fleet) keys(ctx context.Context, rdb redis.UniversalClient) (remote.Keys, error) {
	whole, ok := rdb.(*redis.ClusterClient)
	if !ok {
		return remote.KeysFor(f.name)
	}
	c, err := cluster.New(whole)
	if err != nil {
		return remote.Keys{}, err
	}
	defer func() { _ = c.Close() }()
	return c.Keys(ctx, f.name)
}
