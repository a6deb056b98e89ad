package peers

import (
	"context"
	"fmt"

	"github.com/redis/rueidis"
)

// Rueidis is Plain with rueidis, which shares round trips between callers by itself.
func Rueidis() Peer {
	return rueidisPeer("rueidis GET, decode",
		"Do(GET) with its defaults, which share round trips; decode; on a miss encode and SET; does not join loads",
		rueidis.ClientOption{DisableCache: true}, func(ctx context.Context, c rueidis.Client, key string) rueidis.RedisResult {
			return c.Do(ctx, c.B().Get().Key(key).Build())
		})
}

// RueidisCached is rueidis' client-side caching.
func RueidisCached() Peer {
	return rueidisPeer("rueidis DoCache",
		"DoCache(GET), and decode at every hit: it keeps replies, which Redis itself invalidates",
		rueidis.ClientOption{}, doCache)
}

// RueidisMissing is DoCache with no room to keep anything.
func RueidisMissing() Peer {
	return rueidisPeer("rueidis DoCache, missing",
		"DoCache(GET) with room for nothing: what it costs where a plain GET would do, as it asks to be told of changes",
		rueidis.ClientOption{CacheSizeEachConn: 1}, doCache)
}

func doCache(ctx context.Context, c rueidis.Client, key string) rueidis.RedisResult {
	return c.DoCache(ctx, c.B().Get().Key(key).Cache(), ttl)
}

type rueidisGetFunc func(ctx context.Context, c rueidis.Client, key string) rueidis.RedisResult

func rueidisPeer(name, asked string, opts rueidis.ClientOption, get rueidisGetFunc) Peer {
	return Peer{
		Name: name, Asked: asked,
		Open: func(s Setting) (Reader, error) {
			opts.InitAddress = []string{s.Addr}
			c, err := rueidis.NewClient(opts)
			if err != nil {
				return nil, fmt.Errorf("rueidis: %w", err)
			}
			return &rueidisReader{load: s.Load, client: c, get: get}, nil
		},
	}
}

type rueidisReader struct {
	load   LoadFunc
	client rueidis.Client
	get    rueidisGetFunc
}

func (r *rueidisReader) Read(key string) (int64, error) {
	ctx := context.Background()
	data, err := r.get(ctx, r.client, key).AsBytes()
	switch {
	case err == nil:
		return decodeID(data)
	case !rueidis.IsRedisNil(err):
		return 0, err
	}
	u, err := r.load(key)
	if err != nil {
		return 0, err
	}
	if data, err = encode(u); err != nil {
		return 0, err
	}
	set := r.client.B().Set().Key(key).Value(rueidis.BinaryString(data)).Ex(ttl).Build()
	return u.ID, r.client.Do(ctx, set).Error()
}

func (r *rueidisReader) Close() error {
	r.client.Close()
	return nil
}
