package peers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/tests/bench/internal/workload"
	"github.com/tandemcache/tandem/tiered"
)

// Tandem is tandem with its defaults, but for TTLs that outlast the run.
func Tandem() Peer {
	return tandemPeer(TandemName,
		"Get with its defaults: staleness rule, expiry, heartbeats and leases on; joins loads of one key, tells all processes",
		func(*userOptions) {})
}

// TandemRemote is tandem without its first tier.
func TandemRemote() Peer {
	return tandemPeer(TandemName,
		"Get with LocalTTL off: every read goes to Redis and is decoded; otherwise with its defaults; obeys a context",
		func(o *userOptions) { o.LocalTTL = tiered.Off })
}

// TandemSingle is TandemRemote that shares no round trips.
func TandemSingle() Peer {
	return tandemPeer("tandem, Pipelines off", "Get with LocalTTL off and Pipelines off: every read is sent singly", func(o *userOptions) {
		o.LocalTTL, o.Pipelines = tiered.Off, tiered.Off
	})
}

// TandemNoLease is tandem for a source that is faster than Redis.
func TandemNoLease() Peer {
	return tandemPeer("tandem, NoLease", "Get with NoLease: each process that misses a key at the same time loads it", func(o *userOptions) {
		o.NoLease = true
	})
}

// patience is tandem's RedisTimeout here. A machine that is busy with other things for a quarter of a second should cost a
// slow read and not a failed run.
const patience = 5 * time.Second

var quiet = slog.New(slog.DiscardHandler)

var instances atomic.Int64 // caches of one name would be one cache

type userOptions = tiered.Options[workload.User]

// tandemPeer is tandem with what change makes of the options that all have in common.
func tandemPeer(name, asked string, change func(*userOptions)) Peer {
	return Peer{
		Name: name, Asked: asked,
		Open: func(s Setting) (Reader, error) {
			opts := userOptions{
				Load: func(_ context.Context, key string) (workload.User, error) { return s.Load(key) },
				TTL:  ttl, LocalTTL: ttl, RedisTimeout: patience, Logger: quiet,
			}
			change(&opts)
			return openTandem("bench-"+strconv.FormatInt(instances.Add(1), 10), s.client(), opts)
		},
	}
}

// openTandem takes rdb over.
func openTandem(name string, rdb redis.UniversalClient, opts userOptions) (*tandemReader, error) {
	c, err := tiered.New(rdb, name, opts)
	if err != nil {
		return nil, errors.Join(err, rdb.Close())
	}
	r := &tandemReader{rdb: rdb, cache: c}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.Ready(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("tandem is not ready: %w", err), r.Close())
	}
	return r, nil
}

type tandemReader struct {
	rdb   redis.UniversalClient
	cache *tiered.Cache[workload.User]
}

func (r *tandemReader) Read(key string) (int64, error) {
	u, err := r.cache.Get(context.Background(), key)
	return u.ID, err
}

func (r *tandemReader) ReadMany(keys []string) (map[string]workload.User, error) {
	return r.cache.GetMany(context.Background(), keys)
}

func (r *tandemReader) Store(keys []string) error {
	users := make(map[string]workload.User, len(keys))
	for _, key := range keys {
		id, err := workload.ID(key)
		if err != nil {
			return err
		}
		users[key] = workload.NewUser(id)
	}
	return r.cache.SetMany(context.Background(), users)
}

func (r *tandemReader) Drop(keys []string) error {
	return r.cache.Invalidate(context.Background(), keys...)
}

func (r *tandemReader) Commands() uint64 { return r.cache.Stats().Commands }

func (r *tandemReader) State() string {
	return fmt.Sprintf("%d sessions, %+v", r.cache.Stats().Sessions, r.cache.Health())
}

func (r *tandemReader) Close() error { return errors.Join(r.cache.Close(), r.rdb.Close()) }
