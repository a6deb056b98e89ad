package peers

import (
	"context"

	"github.com/Yiling-J/theine-go"

	"github.com/tandemcache/tandem/tests/bench/internal/workload"
)

// Theine is theine's loading cache with a TTL.
func Theine() Peer {
	return Peer{
		Name:  "theine",
		Asked: "Get of a loading cache, every value with a TTL; joins loads of one key; nothing between processes",
		Open: func(s Setting) (Reader, error) {
			c, err := theine.NewBuilder[string, workload.User](capacity).
				BuildWithLoader(func(_ context.Context, key string) (theine.Loaded[workload.User], error) {
					u, err := s.Load(key)
					return theine.Loaded[workload.User]{Value: u, Cost: 1, TTL: ttl}, err
				})
			if err != nil {
				return nil, err
			}
			return &theineReader{cache: c}, nil
		},
	}
}

type theineReader struct {
	cache *theine.LoadingCache[string, workload.User]
}

func (r *theineReader) Read(key string) (int64, error) {
	u, err := r.cache.Get(context.Background(), key)
	return u.ID, err
}

func (r *theineReader) Close() error {
	r.cache.Close()
	return nil
}
