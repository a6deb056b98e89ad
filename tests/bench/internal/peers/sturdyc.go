package peers

import (
	"context"

	"github.com/viccon/sturdyc"

	"github.com/tandemcache/tandem/tests/bench/internal/workload"
)

// Sturdyc is sturdyc without its second tier. Its background evictions, which cannot be stopped, are off; they would have
// nothing to do.
func Sturdyc() Peer {
	return Peer{
		Name:  "sturdyc",
		Asked: "GetOrFetch, 10 shards, with a TTL; joins loads of one key; nothing between processes",
		Open: func(s Setting) (Reader, error) {
			return &sturdycReader{
				load:  s.Load,
				cache: sturdyc.New[workload.User](capacity, 10, ttl, 10, sturdyc.WithNoContinuousEvictions()),
			}, nil
		},
	}
}

type sturdycReader struct {
	load  LoadFunc
	cache *sturdyc.Client[workload.User]
}

func (r *sturdycReader) Read(key string) (int64, error) {
	u, err := r.cache.GetOrFetch(context.Background(), key, func(context.Context) (workload.User, error) {
		return r.load(key)
	})
	return u.ID, err
}

func (*sturdycReader) Close() error { return nil }
