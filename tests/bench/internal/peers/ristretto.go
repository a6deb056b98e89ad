package peers

import (
	"time"

	"github.com/dgraph-io/ristretto/v2"

	"github.com/tandemcache/tandem/tests/bench/internal/workload"
)

// RistrettoTTL is Ristretto, which tandem's L1 stands on, used bare, its entries with a TTL.
func RistrettoTTL() Peer {
	return ristrettoPeer(LocalBaseline, "Get, then SetWithTTL and Wait on a miss; does not join loads; nothing between processes", ttl)
}

// Ristretto is the same without a TTL, so that it does not look at a clock.
func Ristretto() Peer {
	return ristrettoPeer("Ristretto, no TTL", "the same without a TTL: it needs no clock, and nothing ever expires", 0)
}

func ristrettoPeer(name, asked string, ttl time.Duration) Peer {
	return Peer{
		Name: name, Asked: asked,
		Open: func(s Setting) (Reader, error) {
			c, err := ristretto.NewCache(&ristretto.Config[string, workload.User]{
				NumCounters: 10 * capacity, MaxCost: 64 << 20, BufferItems: 64, IgnoreInternalCost: true,
			})
			if err != nil {
				return nil, err
			}
			return &ristrettoReader{load: s.Load, cache: c, ttl: ttl}, nil
		},
	}
}

type ristrettoReader struct {
	load  LoadFunc
	cache *ristretto.Cache[string, workload.User]
	ttl   time.Duration
}

func (r *ristrettoReader) Read(key string) (int64, error) {
	if u, ok := r.cache.Get(key); ok {
		return u.ID, nil
	}
	u, err := r.load(key)
	if err == nil {
		r.cache.SetWithTTL(key, u, workload.UserBytes, r.ttl)
		r.cache.Wait()
	}
	return u.ID, err
}

func (r *ristrettoReader) Close() error {
	r.cache.Close()
	return nil
}
