package design

import (
	"time"

	"github.com/redis/go-redis/v9"
)

// NewClient returns the client of one instance, with the timeouts that a service with a cache sets: go-redis' defaults would
// have the control wait for minutes. tandem makes its own of it.
func NewClient(addr string) redis.UniversalClient {
	return redis.NewClient(&redis.Options{
		Addr:                  addr,
		DialTimeout:           500 * time.Millisecond,
		ReadTimeout:           controlTimeout,
		WriteTimeout:          controlTimeout,
		ContextTimeoutEnabled: true,
		PoolSize:              32,
	})
}
