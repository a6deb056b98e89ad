package remote

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/redisclient"
	"github.com/tandemcache/tandem/internal/script"
)

// The methods here do for several keys, at most MaxBatch, what those of one do: the same commands, as one pipeline. So each
// key has an answer of its own, in the order that was asked in, and Redis serves others in between.

// maxSplits is how often GetMany asks again for what a value that is too long has kept from arriving. Each time costs a
// connection.
const maxSplits = 3

var errLost = errors.New("its connection was ended by another that is too large")

// Answer is what was asked for one key.
type Answer[T any] struct {
	Value T
	// Err is Redis' answer about this key (a redis.Error), or why there is none.
	Err error
}

// GetMany is Get for several keys, in one round trip. A value that the client refuses to read ends the connection; what comes
// after it is asked for again, three times at most. What has still not arrived has ErrTooLarge, and may not be.
func (s *Store) GetMany(ctx context.Context, keys []string) []Answer[[]byte] {
	out := make([]Answer[[]byte], 0, len(keys))
	for splits := 0; len(out) < len(keys) && splits <= maxSplits; splits++ {
		out = append(out, s.getTogether(ctx, keys[len(out):])...)
	}
	for len(out) < len(keys) {
		out = append(out, Answer[[]byte]{Err: fmt.Errorf("%w: %w", ErrTooLarge, errLost)})
	}
	return out
}

// getTogether returns the answers up to the first that is too long, and that one's.
func (s *Store) getTogether(ctx context.Context, keys []string) []Answer[[]byte] {
	s.commands.Add(uint64(len(keys)))
	pipe := s.client.Pipeline()
	cmds := make([]*redis.StringCmd, len(keys))
	for i, key := range keys {
		cmds[i] = pipe.HGet(ctx, s.keys.Entry(key), s.field)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	out := make([]Answer[[]byte], 0, len(keys))
	for _, cmd := range cmds {
		b, err := cmd.Bytes()
		tooLong := errors.Is(err, redisclient.ErrTooLong)
		b, err = envelopeRead(b, err)
		out = append(out, Answer[[]byte]{b, err})
		if tooLong {
			break
		}
	}
	return out
}

// Ask is what AcquireMany needs to know of one key.
type Ask struct {
	Key   string
	Token Token
	Seen  Seen
}

// AcquireMany is Acquire for several keys, in one round trip.
func (s *Store) AcquireMany(ctx context.Context, asks []Ask, ttl time.Duration, inbox string) []Answer[Lease] {
	return runMany(ctx, s, acquireScript, asks, acquired, func(a Ask) script.Call {
		return s.acquireCall(a.Key, a.Token, a.Seen, ttl, inbox)
	})
}

// Holding is a lease that the caller holds.
type Holding struct {
	Key   string
	Token Token
	// Wake is for those who wait, if the lease is given up.
	Wake []byte
}

// RenewMany is Renew for several leases, in one round trip.
func (s *Store) RenewMany(ctx context.Context, leases []Holding, ttl time.Duration) []Answer[bool] {
	return runMany(ctx, s, renewScript, leases, done, func(h Holding) script.Call { return s.renewCall(h.Key, h.Token, ttl) })
}

// ReleaseMany is Release for several leases, in one round trip.
func (s *Store) ReleaseMany(ctx context.Context, leases []Holding) []Answer[bool] {
	return runMany(ctx, s, releaseScript, leases, done, func(h Holding) script.Call { return s.releaseCall(h.Key, h.Token, h.Wake) })
}

// Filling is what FillMany stores for one key.
type Filling struct {
	Key      string
	Token    Token
	Envelope []byte
	TTL      time.Duration
	Epoch    uint64
	Wake     []byte
}

// FillMany is Fill for several keys, in one round trip.
func (s *Store) FillMany(ctx context.Context, fills []Filling) []Answer[bool] {
	return runMany(ctx, s, fillScript, fills, done, func(f Filling) script.Call {
		return s.fillCall(f.Key, f.Token, f.Envelope, f.TTL, f.Epoch, f.Wake)
	})
}

// Setting is what SetMany stores for one key.
type Setting struct {
	Key      string
	Envelope []byte
	TTL      time.Duration
	Message  []byte
}

// SetMany is Set for several keys, in one round trip.
func (s *Store) SetMany(ctx context.Context, sets []Setting, epoch uint64, notAfter int64) []Answer[bool] {
	return runMany(ctx, s, setScript, sets, done, func(e Setting) script.Call {
		return s.setCall(e.Key, e.Envelope, e.TTL, epoch, notAfter, e.Message)
	})
}

func runMany[A, T any](ctx context.Context, s *Store, sc script.Script, asks []A, read func(*redis.Cmd) (T, error), call func(A) script.Call) []Answer[T] {
	calls := make([]script.Call, len(asks))
	for i, a := range asks {
		calls[i] = call(a)
	}
	out := make([]Answer[T], len(asks))
	for i, cmd := range sc.RunMany(ctx, &s.commands, s.client, calls) {
		out[i].Value, out[i].Err = read(cmd)
	}
	return out
}
