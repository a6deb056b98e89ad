package peers

import (
	"sync"

	"github.com/tandemcache/tandem/tests/bench/internal/workload"
)

// SyncMap is a sync.Map: the floor, as it neither evicts nor expires anything.
func SyncMap() Peer {
	return Peer{
		Name:  "sync.Map",
		Asked: "Load; no bound, no expiry, no joining of loads",
		Open:  func(s Setting) (Reader, error) { return &syncMapReader{load: s.Load}, nil },
	}
}

type syncMapReader struct {
	load  LoadFunc
	users sync.Map
}

func (r *syncMapReader) Read(key string) (int64, error) {
	if v, ok := r.users.Load(key); ok {
		u, _ := v.(workload.User)
		return u.ID, nil
	}
	u, err := r.load(key)
	if err == nil {
		r.users.Store(key, u)
	}
	return u.ID, err
}

func (*syncMapReader) Close() error { return nil }
