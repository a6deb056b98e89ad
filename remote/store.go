package remote

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/redisclient"
	"github.com/tandemcache/tandem/internal/script"
)

// MaxBatch is the most keys that one call of Invalidate takes: a script blocks Redis while it runs, and Lua's unpack has
// a limit of its own.
const MaxBatch = 1000

// Store is the second tier for one cache and one schema on one Redis: all of it, or, in a cluster, what one node has of it. It
// knows all partitions and leads no call elsewhere: to one about a partition that it does not have the node answers with MOVED (a
// redis.Error), and nothing has happened. It may be used concurrently. Every call is one round trip (two
// for a script that the server does not know yet), or, of Get, a part of one; it waits for ctx at most as well as the client
// obeys it, and is not retried.
//
// While a slot is on its way to another node, the old one answers with ASK or TRYAGAIN if a key is not there, and nothing has
// happened; or, if a script comes upon such a key in its course, with an error that has no name of its own, and what the script
// has done until then stays: parts of an invalidation, and never anything that is read.
type Store struct {
	client   redis.UniversalClient
	reads    reads
	keys     Keys
	field    string
	maxBytes int
	shared   string // what the scripts are told of Options.Shared
	tagged   bool
	commands atomic.Uint64
	observe  ObserveFunc

	bytesRead, bytesWritten atomic.Uint64
}

// Options are what a Store is made with.
type Options struct {
	Keys   Keys
	Schema Schema
	// DB is the logical database that the client has selected.
	DB int
	// MaxBytes is the longest envelope that is read where Redis can tell before: Acquire hands out none that is longer.
	MaxBytes int
	// Pipelines is how many round trips of Get are under way at once before further ones share theirs. Not positive: each is
	// one of its own.
	Pipelines int
	// Observe is told of every call when it is over, on its goroutine. Nil: nobody is.
	Observe ObserveFunc
	// Shared has several hold a lease at once: it keeps out what an invalidation came between, and nobody waits.
	Shared bool
	// Tagged says that the values may have tags: what is read is expected to, and leases are for it. Entries of others that tell
	// tags are read with one round trip more where it is not set.
	Tagged bool
}

// New returns the store of one cache on client, which stays the caller's.
func New(client redis.UniversalClient, opts Options) *Store {
	s := &Store{
		client: client, keys: opts.Keys.inDB(opts.DB), field: opts.Schema.Field(), maxBytes: opts.MaxBytes,
		observe: opts.Observe, tagged: opts.Tagged,
	}
	s.reads.client, s.reads.field, s.reads.limit = client, s.field, opts.Pipelines
	s.reads.tagged, s.reads.sent = opts.Tagged, &s.commands
	if opts.Shared {
		s.shared = "1"
	}
	return s
}

// Commands returns how many commands the store has sent.
func (s *Store) Commands() uint64 { return s.commands.Load() }

// Get returns the envelope's bytes of key's entry, nil if there is none, ErrWrongType if the key holds something else, or
// ErrTooLarge if the client refused to read it.
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	s.commands.Add(1)
	began := s.began()
	b, err := s.reads.get(ctx, s.entry(key))
	s.over(ctx, OpGet, 1, began, err)
	s.bytesRead.Add(uint64(len(b)))
	return envelopeRead(b, err)
}

// envelopeRead says what reading an entry's field has come to.
func envelopeRead(b []byte, err error) ([]byte, error) {
	switch {
	case err == nil:
		return b, nil
	case errors.Is(err, redis.Nil):
		return nil, nil
	case wrongType(err):
		return nil, ErrWrongType
	case errors.Is(err, redisclient.ErrTooLong):
		return nil, fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return nil, err
}

// entry returns where the entry of key is.
func (s *Store) entry(key string) entry {
	p := s.keys.part(key)
	return entry{key: p.entry(key), part: p}
}

// Set invalidates key's entry and stores envelope in its place for ttl, provided that the script runs at notAfter (ms of
// Redis time) or earlier and that epoch is still the one of key's partition. It reports whether it stored; it has invalidated
// in any case where it returns no error. message is published with the change.
func (s *Store) Set(ctx context.Context, key string, envelope []byte, ttl time.Duration, epoch uint64, notAfter int64, message []byte) (bool, error) {
	stored, err := done(s.call(ctx, setScript, s.setCall(key, envelope, ttl, epoch, notAfter, message)))
	s.wrote(stored, envelope)
	return stored, err
}

func (s *Store) setCall(key string, envelope []byte, ttl time.Duration, epoch uint64, notAfter int64, message []byte) script.Call {
	e := s.entry(key)
	call := script.Call{Keys: []string{e.key, e.part.epoch}, Args: []any{
		e.part.channel, message, s.field, envelope, ttl.Milliseconds(), formatEpoch(epoch), notAfter,
	}}
	if tellsTags(envelope) {
		call.Args = append(call.Args, formatEpoch(NewEpoch()), epochTTL.Milliseconds())
	}
	return call
}

func (s *Store) call(ctx context.Context, sc script.Script, c script.Call) *redis.Cmd {
	return s.run(ctx, sc, c.Keys, c.Args...)
}

func (s *Store) run(ctx context.Context, sc script.Script, keys []string, args ...any) *redis.Cmd {
	began := s.began()
	cmd := s.variant(sc).RunCounted(ctx, &s.commands, s.client, keys, args...)
	s.over(ctx, opOf(sc), entriesOf(sc, keys), began, cmd.Err())
	return cmd
}
