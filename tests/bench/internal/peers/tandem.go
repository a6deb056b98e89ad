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
	return tandemPeer("Get with its defaults: staleness rule, expiry, heartbeats and leases on; joins loads of one key, tells all processes", ttl)
}

// TandemRemote is tandem without its first tier.
func TandemRemote() Peer {
	return tandemPeer("Get with LocalTTL off: every read goes to Redis and is decoded; otherwise with its defaults", tiered.Off)
}

// patience is tandem's RedisTimeout here. A machine that is busy with other things for a quarter of a second should cost a
// slow read and not a failed run.
const patience = 5 * time.Second

var quiet = slog.New(slog.DiscardHandler)

var instances atomic.Int64 // caches of one name would be one cache

func tandemPeer(asked string, localTTL time.Duration) Peer {
	return Peer{
		Name: TandemName, Asked: asked,
		Open: func(s Setting) (Reader, error) {
			name := "bench-" + strconv.FormatInt(instances.Add(1), 10)
			return openTandem(name, s.Addr, tiered.Options[workload.User]{
				Load:         func(_ context.Context, key string) (workload.User, error) { return s.Load(key) },
				TTL:          ttl,
				LocalTTL:     localTTL,
				RedisTimeout: patience,
				Logger:       quiet,
			})
		},
	}
}

func openTandem(name, addr string, opts tiered.Options[workload.User]) (*tandemReader, error) {
	rdb := redis.NewClient(&redis.Options{Addr: addr})
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
	rdb   *redis.Client
	cache *tiered.Cache[workload.User]
}

func (r *tandemReader) Read(key string) (int64, error) {
	u, err := r.cache.Get(context.Background(), key)
	return u.ID, err
}

func (r *tandemReader) Commands() uint64 { return r.cache.Stats().Commands }

func (r *tandemReader) Close() error { return errors.Join(r.cache.Close(), r.rdb.Close()) }
