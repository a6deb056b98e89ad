package remote

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/internal/script"
)

// Op is what a call asks of Redis.
type Op string

// The calls of a Store.
const (
	OpGet            Op = "get"
	OpAcquire        Op = "acquire"
	OpRenew          Op = "renew"
	OpFill           Op = "fill"
	OpRelease        Op = "release"
	OpSet            Op = "set"
	OpInvalidate     Op = "invalidate"
	OpInvalidateTags Op = "invalidate_tags"
	OpInvalidateAll  Op = "invalidate_all"
)

// ObserveFunc is told of a call that is over: of how many entries it was (of OpInvalidateTags and OpInvalidateAll: partitions), how long it took, and how it failed. That an entry
// is not there is no failure.
type ObserveFunc func(ctx context.Context, op Op, entries int, took time.Duration, err error)

// began reads the clock if anybody wants to know.
func (s *Store) began() int64 {
	if s.observe == nil {
		return 0
	}
	return mono.Now()
}

func (s *Store) over(ctx context.Context, op Op, keys int, began int64, err error) {
	if s.observe == nil {
		return
	}
	if errors.Is(err, redis.Nil) {
		err = nil
	}
	s.observe(ctx, op, keys, time.Duration(mono.Now()-began), err)
}

func opOf(sc script.Script) Op {
	switch sc {
	case acquireScript:
		return OpAcquire
	case renewScript:
		return OpRenew
	case fillScript:
		return OpFill
	case releaseScript:
		return OpRelease
	case setScript:
		return OpSet
	case invalidateScript:
		return OpInvalidate
	case invalidateTagsScript:
		return OpInvalidateTags
	default:
		return OpInvalidateAll
	}
}

// entriesOf is how many entries a call names; most scripts name one, and the epoch's key.
func entriesOf(sc script.Script, keys []string) int {
	if sc == invalidateScript {
		return len(keys)
	}
	return 1
}

// wrote counts what was stored.
func (s *Store) wrote(stored bool, envelope []byte) {
	if stored {
		s.bytesWritten.Add(uint64(len(envelope)))
	}
}

// BytesRead returns how many bytes of entries Redis has sent.
func (s *Store) BytesRead() uint64 { return s.bytesRead.Load() }

// BytesWritten returns how many bytes of entries Redis has stored.
func (s *Store) BytesWritten() uint64 { return s.bytesWritten.Load() }

// Waiting returns how many reads wait for a round trip of others to end, to share the next one.
func (s *Store) Waiting() int { return s.reads.waiting() }

func (r *reads) waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.queue)
}
