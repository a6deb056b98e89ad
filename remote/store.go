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

// Store is the second tier for one cache and one schema. It may be used concurrently. Every call is one round trip (two
// for a script that the server does not know yet), or, of Get, a part of one; it waits for ctx at most as well as the client
// obeys it, and is not retried.
type Store struct {
	client   redis.UniversalClient
	reads    reads
	keys     Keys
	field    string
	channel  string
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
		client: client, keys: opts.Keys, field: opts.Schema.Field(), channel: opts.Keys.Channel(opts.DB), maxBytes: opts.MaxBytes,
		observe: opts.Observe, tagged: opts.Tagged,
	}
	s.reads.client, s.reads.field, s.reads.epoch, s.reads.limit = client, s.field, s.keys.Epoch(), opts.Pipelines
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
	b, err := s.reads.get(ctx, s.keys.Entry(key))
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

// Set invalidates key's entry and stores envelope in its place for ttl, provided that the script runs at notAfter (ms of
// Redis time) or earlier and that epoch is still the cache's. It reports whether it stored; it has invalidated in any case
// where it returns no error. message is published with the change.
func (s *Store) Set(ctx context.Context, key string, envelope []byte, ttl time.Duration, epoch uint64, notAfter int64, message []byte) (bool, error) {
	stored, err := done(s.call(ctx, setScript, s.setCall(key, envelope, ttl, epoch, notAfter, message)))
	s.wrote(stored, envelope)
	return stored, err
}

func (s *Store) setCall(key string, envelope []byte, ttl time.Duration, epoch uint64, notAfter int64, message []byte) script.Call {
	call := script.Call{Keys: []string{s.keys.Entry(key), s.keys.Epoch()}, Args: []any{
		s.channel, message, s.field, envelope, ttl.Milliseconds(), formatEpoch(epoch), notAfter,
	}}
	if tellsTags(envelope) {
		call.Args = append(call.Args, formatEpoch(NewEpoch()), epochTTL.Milliseconds())
	}
	return call
}

// Invalidate deletes the entries of at most MaxBatch keys and publishes message, atomically.
func (s *Store) Invalidate(ctx context.Context, keys []string, message []byte) error {
	entries := make([]string, len(keys))
	for i, key := range keys {
		entries[i] = s.keys.Entry(key)
	}
	return s.run(ctx, invalidateScript, entries, s.channel, message).Err()
}

// InvalidateAll starts a new epoch and publishes message, atomically. Entries of the old one stay until their TTL, unread.
func (s *Store) InvalidateAll(ctx context.Context, message []byte) error {
	return s.run(ctx, invalidateAllScript, []string{s.keys.Epoch()},
		formatEpoch(NewEpoch()), epochTTL.Milliseconds(), s.channel, message).Err()
}

func (s *Store) call(ctx context.Context, sc script.Script, c script.Call) *redis.Cmd {
	return s.run(ctx, sc, c.Keys, c.Args...)
}

func (s *Store) run(ctx context.Context, sc script.Script, keys []string, args ...any) *redis.Cmd {
	began := s.began()
	cmd := sc.RunCounted(ctx, &s.commands, s.client, keys, args...)
	s.over(ctx, opOf(sc), entriesOf(sc, keys), began, cmd.Err())
	return cmd
}
