package remote

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// Presence is what Redis has of one entry.
type Presence struct {
	// Value says that there is a value of the store's schema.
	Value bool
	// Lease is the token under which somebody loads it, empty if nobody does.
	Lease Token
}

// Present returns what there is of each key, in one round trip. A key that holds something else has nothing.
func (s *Store) Present(ctx context.Context, keys []string) ([]Presence, error) {
	s.commands.Add(uint64(2 * len(keys)))
	values, leases := make([]*redis.BoolCmd, len(keys)), make([]*redis.StringCmd, len(keys))
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, key := range keys {
			values[i] = p.HExists(ctx, s.keys.Entry(key), s.field)
			leases[i] = p.HGet(ctx, s.keys.Entry(key), s.field+leaseSuffix)
		}
		return nil
	})
	present := make([]Presence, len(keys))
	for i := range keys {
		valueErr, leaseErr := values[i].Err(), leases[i].Err()
		switch {
		case valueErr != nil && wrongType(valueErr):
			continue
		case valueErr != nil || (leaseErr != nil && !errors.Is(leaseErr, redis.Nil)):
			return nil, errors.Join(err, valueErr, leaseErr)
		}
		present[i].Value = values[i].Val()
		// See acquire.lua: the token is the end.
		if lease := leases[i].Val(); len(lease) >= tokenBytes {
			present[i].Lease = Token(lease[len(lease)-tokenBytes:])
		}
	}
	return present, nil
}
