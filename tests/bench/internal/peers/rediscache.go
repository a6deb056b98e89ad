package peers

import (
	"github.com/go-redis/cache/v9"
	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/remote/codec"
	"github.com/tandemcache/tandem/tests/bench/internal/workload"
)

// RedisCacheLocal is go-redis/cache with its first tier.
func RedisCacheLocal() Peer {
	return redisCachePeer("go-redis/cache",
		"Once with TinyLFU and tandem's codec; decodes at every hit: it keeps bytes; joins loads of one key; tells no other process",
		func() cache.LocalCache { return cache.NewTinyLFU(capacity, ttl) })
}

// RedisCache is go-redis/cache without its first tier.
func RedisCache() Peer {
	return redisCachePeer("go-redis/cache", "Once without a local cache, with tandem's codec; joins loads of one key",
		func() cache.LocalCache { return nil })
}

func redisCachePeer(name, asked string, local func() cache.LocalCache) Peer {
	return Peer{
		Name: name, Asked: asked,
		Open: func(s Setting) (Reader, error) {
			rdb := redis.NewClient(&redis.Options{Addr: s.Addr})
			return &redisCacheReader{load: s.Load, rdb: rdb, cache: cache.New(&cache.Options{
				Redis: rdb, LocalCache: local(),
				Marshal:   codec.Default.Marshal,
				Unmarshal: codec.Default.Unmarshal,
			})}, nil
		},
	}
}

type redisCacheReader struct {
	load  LoadFunc
	rdb   *redis.Client
	cache *cache.Cache
}

func (r *redisCacheReader) Read(key string) (int64, error) {
	var u workload.User
	err := r.cache.Once(&cache.Item{Key: key, Value: &u, TTL: ttl, Do: func(*cache.Item) (any, error) {
		u, err := r.load(key)
		return &u, err
	}})
	return u.ID, err
}

func (r *redisCacheReader) Close() error { return r.rdb.Close() }
