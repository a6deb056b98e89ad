package fleet

import (
	"fmt"

	"github.com/alicebob/miniredis/v2"

	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/target"
)

// embedded starts a Redis in this process, on a free port of the loopback interface. Its TTLs stand still: to have it watch
// them makes each of its commands as slow as it has keys, and tandem's entries carry their end in themselves.
func embedded() (*target.Server, func(), error) {
	m := miniredis.NewMiniRedis()
	if err := m.Start(); err != nil {
		return nil, nil, fmt.Errorf("starting a Redis in this process: %w", err)
	}
	opt, err := target.Parse(m.Addr(), 0)
	if err != nil {
		m.Close()
		return nil, nil, err
	}
	opt.Password = "" // of another Redis, from the environment
	return &target.Server{Options: opt}, m.Close, nil
}
