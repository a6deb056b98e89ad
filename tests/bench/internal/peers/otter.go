package peers

import (
	"context"

	"github.com/maypok86/otter/v2"

	"github.com/tandemcache/tandem/tests/bench/internal/workload"
)

// Otter is otter with an expiry after writing.
func Otter() Peer {
	return Peer{
		Name:  "otter, with expiry",
		Asked: "Get with a loader, ExpiryWriting; joins loads of one key; nothing between processes",
		Open: func(s Setting) (Reader, error) {
			c, err := otter.New(&otter.Options[string, workload.User]{
				MaximumSize:      capacity,
				ExpiryCalculator: otter.ExpiryWriting[string, workload.User](ttl),
			})
			if err != nil {
				return nil, err
			}
			load := otter.LoaderFunc[string, workload.User](func(_ context.Context, key string) (workload.User, error) {
				return s.Load(key)
			})
			return &otterReader{cache: c, load: load}, nil
		},
	}
}

type otterReader struct {
	cache *otter.Cache[string, workload.User]
	load  otter.Loader[string, workload.User]
}

func (r *otterReader) Read(key string) (int64, error) {
	u, err := r.cache.Get(context.Background(), key, r.load)
	return u.ID, err
}

func (r *otterReader) Close() error {
	r.cache.StopAllGoroutines()
	return nil
}
