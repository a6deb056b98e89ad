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
// key has an answer of its own, in the order that was asked in, and Redis serves others in between. The keys may be of several
// partitions; what the node does not have is refused to them alone.

var errLost = errors.New("its connection was ended by another that is too large")

// Answer is what was asked for one key.
type Answer[T any] struct {
	Value T
	// Err is Redis' answer about this key (a redis.Error), or why there is none.
	Err error
}

// GetMany is Get for several keys, in one round trip. A value that the client refuses to read ends the connection, and answers
// to others with it. Then the lengths of what was lost are asked for, and what is not longer than Options.MaxBytes once more.
func (s *Store) GetMany(ctx context.Context, keys []string) []Answer[[]byte] {
	out := make([]Answer[[]byte], len(keys))
	all := make([]int, len(keys))
	for i := range all {
		all[i] = i
	}
	began := s.began()
	defer func() {
		s.over(ctx, OpGet, len(keys), began, firstError(out))
		for _, a := range out {
			s.bytesRead.Add(uint64(len(a.Value)))
		}
	}()
	if lost := s.getTogether(ctx, keys, all, out); len(lost) > 0 {
		short := s.notTooLong(ctx, keys, lost, out)
		for _, i := range s.getTogether(ctx, keys, short, out) {
			out[i].Err = fmt.Errorf("%w: %w", ErrTooLarge, errLost)
		}
	}
	return out
}

// getTogether answers for the keys of these numbers, and returns the numbers of those whose answers were lost.
func (s *Store) getTogether(ctx context.Context, keys []string, numbers []int, out []Answer[[]byte]) (lost []int) {
	if len(numbers) == 0 {
		return nil
	}
	entries := make([]entry, len(numbers))
	for n, i := range numbers {
		entries[n] = s.entry(keys[i])
	}
	s.commands.Add(uint64(len(numbers)))
	answers := s.reads.all(ctx, entries)
	for n, i := range numbers {
		b, err := answers[n].value, answers[n].err
		if errors.Is(err, redisclient.ErrTooLong) {
			lost = append(lost, i)
		}
		out[i].Value, out[i].Err = envelopeRead(b, err)
	}
	return lost
}

// notTooLong returns the numbers of the keys whose values are not, and answers for the others.
func (s *Store) notTooLong(ctx context.Context, keys []string, numbers []int, out []Answer[[]byte]) (short []int) {
	cmds := together(ctx, s, numbers, func(p redis.Pipeliner, i int) *redis.IntCmd {
		return p.HStrLen(ctx, s.keys.Entry(keys[i]), s.field)
	})
	for n, i := range numbers {
		switch length, err := cmds[n].Result(); {
		case err != nil:
			_, out[i].Err = envelopeRead(nil, err)
		case length > int64(s.maxBytes):
			out[i].Err = fmt.Errorf("%w: %d bytes", ErrTooLarge, length)
		default:
			short = append(short, i)
		}
	}
	return short
}

// together sends a command for each number in one round trip.
func together[C redis.Cmder](ctx context.Context, s *Store, numbers []int, command func(redis.Pipeliner, int) C) []C {
	if len(numbers) == 0 {
		return nil
	}
	s.commands.Add(uint64(len(numbers)))
	pipe := s.client.Pipeline()
	cmds := make([]C, len(numbers))
	for n, i := range numbers {
		cmds[n] = command(pipe, i)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	return cmds
}

// Ask is what AcquireMany needs to know of one key.
type Ask struct {
	Key   string
	Token Token
	Seen  Seen
	// Inbox is the private channel that is told when another holder is done; in the slot of the key's partition.
	Inbox string
}

// AcquireMany is Acquire for several keys, in one round trip.
func (s *Store) AcquireMany(ctx context.Context, asks []Ask, ttl time.Duration) []Answer[Lease] {
	out := runMany(ctx, s, acquireScript, asks, acquired, func(a Ask) script.Call {
		return s.acquireCall(a.Key, a.Token, a.Seen, ttl, a.Inbox)
	})
	for _, a := range out {
		s.bytesRead.Add(uint64(len(a.Value.Value)))
	}
	return out
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
	return runMany(ctx, s, renewScript, leases, done, func(h Holding) script.Call {
		return s.renewCall(s.keys.Entry(h.Key), h.Token, ttl)
	})
}

// ReleaseMany is Release for several leases, in one round trip.
func (s *Store) ReleaseMany(ctx context.Context, leases []Holding) []Answer[bool] {
	return runMany(ctx, s, releaseScript, leases, done, func(h Holding) script.Call {
		return s.releaseCall(s.keys.Entry(h.Key), h.Token, h.Wake)
	})
}

// Filling is what FillMany stores for one key.
type Filling struct {
	Key      string
	Token    Token
	Envelope []byte
	TTL      time.Duration
	Epoch    uint64
	Wake     []byte
	AsOf     string // of the lease
}

// FillMany is Fill for several keys, in one round trip.
func (s *Store) FillMany(ctx context.Context, fills []Filling) []Answer[bool] {
	out := runMany(ctx, s, fillScript, fills, done, s.fillCall)
	for i, f := range fills {
		s.wrote(out[i].Value, f.Envelope)
	}
	return out
}

// Setting is what SetMany stores for one key.
type Setting struct {
	Key      string
	Envelope []byte
	TTL      time.Duration
	Epoch    uint64 // of the key's partition
	NotAfter int64  // ms of Redis time
	Message  []byte
}

// SetMany is Set for several keys, in one round trip.
func (s *Store) SetMany(ctx context.Context, sets []Setting) []Answer[bool] {
	out := runMany(ctx, s, setScript, sets, done, func(e Setting) script.Call {
		return s.setCall(e.Key, e.Envelope, e.TTL, e.Epoch, e.NotAfter, e.Message)
	})
	for i, set := range sets {
		s.wrote(out[i].Value, set.Envelope)
	}
	return out
}

func runMany[A, T any](ctx context.Context, s *Store, sc script.Script, asks []A, read func(*redis.Cmd) (T, error), call func(A) script.Call) []Answer[T] {
	calls := make([]script.Call, len(asks))
	for i, a := range asks {
		calls[i] = call(a)
	}
	out := make([]Answer[T], len(asks))
	began := s.began()
	for i, cmd := range s.variant(sc).RunMany(ctx, &s.commands, s.client, calls) {
		out[i].Value, out[i].Err = read(cmd)
	}
	s.over(ctx, opOf(sc), len(asks), began, firstError(out))
	return out
}

// firstError is what is told of a call that was made for several keys.
func firstError[T any](answers []Answer[T]) error {
	for _, a := range answers {
		if a.Err != nil {
			return a.Err
		}
	}
	return nil
}
