package peers

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/tests/bench/internal/workload"
)

// Plain is what one writes without a library: GET and decode, and on a miss load, encode and SET.
func Plain() Peer {
	return Peer{
		Name:  RemoteBaseline,
		Asked: "go-redis with its defaults: GET and decode; on a miss encode and SET; does not join loads, tells no other process",
		Open: func(s Setting) (Reader, error) {
			rdb := s.client()
			return &goRedisReader{load: s.Load, rdb: rdb, get: rdb, close: rdb.Close}, nil
		},
	}
}

// AutoPipeline is Plain on go-redis' automatic pipelines.
func AutoPipeline() Peer {
	return Peer{
		Name:  "go-redis AutoPipeline GET, decode",
		Asked: "the same with GET on AutoPipeline, which shares round trips and does not obey a context",
		Open: func(s Setting) (Reader, error) {
			rdb := redis.NewClient(&redis.Options{Addr: s.Addr})
			pipe, err := rdb.AutoPipeline()
			if err != nil {
				return nil, errors.Join(err, rdb.Close())
			}
			return &goRedisReader{load: s.Load, rdb: rdb, get: pipe, close: func() error {
				return errors.Join(pipe.Close(), rdb.Close())
			}}, nil
		},
	}
}

// ClientSideCache is go-redis' cache of replies, kept current by Redis' tracking.
func ClientSideCache() Peer {
	return Peer{
		Name:  "go-redis client-side cache",
		Asked: "GET on a client with ClientSideCacheConfig, and decode at every hit: it keeps bytes; does not join loads",
		Open: func(s Setting) (Reader, error) {
			rdb := redis.NewClient(&redis.Options{
				Addr: s.Addr, Protocol: 3, ClientSideCacheConfig: &redis.ClientSideCacheConfig{MaxEntries: capacity},
			})
			return &goRedisReader{load: s.Load, rdb: rdb, get: rdb, close: rdb.Close}, nil
		},
	}
}

// getter is what GET is sent through.
type getter interface {
	Get(ctx context.Context, key string) *redis.StringCmd
}

type goRedisReader struct {
	load  LoadFunc
	rdb   redis.UniversalClient
	get   getter
	close func() error
}

func (r *goRedisReader) Read(key string) (int64, error) {
	ctx := context.Background()
	data, err := r.get.Get(ctx, key).Bytes()
	switch {
	case err == nil:
		return decodeID(data)
	case !errors.Is(err, redis.Nil):
		return 0, err
	}
	u, err := r.load(key)
	if err != nil {
		return 0, err
	}
	if data, err = encode(u); err != nil {
		return 0, err
	}
	return u.ID, r.rdb.Set(ctx, key, data, ttl).Err()
}

// ReadMany sends a GET for each key, in one pipeline for each node, as keys of a cluster have no MGET in common.
func (r *goRedisReader) ReadMany(keys []string) (map[string]workload.User, error) {
	ctx := context.Background()
	pipe := r.rdb.Pipeline()
	got := make([]*redis.StringCmd, len(keys))
	for i, key := range keys {
		got[i] = pipe.Get(ctx, key)
	}
	if _, err := pipe.Exec(ctx); errors.Is(err, redis.Nil) {
		return nil, ErrCold
	} else if err != nil {
		return nil, err
	}
	users := make(map[string]workload.User, len(keys))
	for i, key := range keys {
		data, err := got[i].Bytes()
		if err != nil {
			return nil, err
		}
		if users[key], err = decode(data); err != nil {
			return nil, err
		}
	}
	return users, nil
}

func (r *goRedisReader) Store(keys []string) error { return store(context.Background(), r.rdb, keys) }

// Drop sends UNLINK for each key.
func (r *goRedisReader) Drop(keys []string) error {
	ctx := context.Background()
	if len(keys) == 1 {
		return r.rdb.Unlink(ctx, keys[0]).Err()
	}
	pipe := r.rdb.Pipeline()
	for _, key := range keys {
		pipe.Unlink(ctx, key)
	}
	_, err := pipe.Exec(ctx)
	return err
}

func (r *goRedisReader) Close() error { return r.close() }
