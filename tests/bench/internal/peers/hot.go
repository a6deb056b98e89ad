package peers

import (
	"github.com/samber/hot"

	"github.com/tandemcache/tandem/tests/bench/internal/workload"
)

// Hot is samber/hot with a TTL, in its default layout: one lock.
func Hot() Peer {
	return Peer{
		Name:  "samber/hot",
		Asked: "Get with a loader, LRU, with a TTL, not sharded (its W-TinyLFU loses entries of which it has room for ten times as many); joins loads of one key; takes no context; nothing between processes",
		Open: func(s Setting) (Reader, error) {
			c := hot.NewHotCache[string, workload.User](hot.LRU, capacity).
				WithTTL(ttl).
				WithLoaders(func(keys []string) (map[string]workload.User, error) {
					found := make(map[string]workload.User, len(keys))
					for _, key := range keys {
						u, err := s.Load(key)
						if err != nil {
							return nil, err
						}
						found[key] = u
					}
					return found, nil
				}).Build()
			return &hotReader{cache: c}, nil
		},
	}
}

type hotReader struct {
	cache *hot.HotCache[string, workload.User]
}

func (r *hotReader) Read(key string) (int64, error) {
	u, _, err := r.cache.Get(key)
	return u.ID, err
}

func (r *hotReader) Close() error {
	r.cache.Purge()
	return nil
}
