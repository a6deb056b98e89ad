// Package inspect reads what Redis holds for one key of a cache, and explains it. It trusts nothing that it reads.
package inspect

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/remote"
)

const (
	// maxFields is how many fields of a hash are looked at: an entry has four for each schema.
	maxFields = 96
	// maxFieldBytes is the longest field that is read.
	maxFieldBytes = 16 << 20

	// As the package remote documents them.
	leaseSuffix  = ".l"
	waiterSuffix = ".w"
	tagSuffix    = ".t"
)

// ErrNothing is returned if Redis has nothing under the key.
var ErrNothing = errors.New("nothing there")

// Entry is what was found.
type Entry struct {
	Cache    string    `json:"cache"`
	Key      string    `json:"key"`
	RedisKey string    `json:"redis_key"`
	Type     string    `json:"redis_type"`
	TTL      int64     `json:"ttl_ms"`            // -1: none
	Epoch    string    `json:"epoch,omitempty"`   // the cache's; empty: there is none, or not one that can be read
	Schemas  []*Schema `json:"schemas,omitempty"` // what is stored for each schema
	Foreign  []string  `json:"foreign,omitempty"` // fields that are not an entry's
	Note     string    `json:"note,omitempty"`    // why it is no entry
	now      time.Time // of Redis
	epoch    *uint64
}

// schemaField is a Schema's name, as the package remote documents it.
var schemaField = regexp.MustCompile(`^[a-z0-9-]{1,16}\.[0-9a-f]{16}$`)

// Source is where an entry is read.
type Source struct {
	Redis redis.UniversalClient // follows redirections in a cluster
	Clock Clock                 // that of the server that has the entry
	Keys  remote.Keys
}

// Clock tells the time of a server.
type Clock interface {
	Time(ctx context.Context) *redis.TimeCmd
}

// Read returns the entry of key, or an error that wraps ErrNothing if there is nothing.
func Read(ctx context.Context, from Source, cache, key string) (*Entry, error) {
	rdb, keys := from.Redis, from.Keys
	if err := remote.CheckKey(key); err != nil {
		return nil, err
	}
	e := &Entry{Cache: cache, Key: key, RedisKey: keys.Entry(key)}
	if err := e.readHead(ctx, from); err != nil {
		return nil, err
	}
	switch e.Type {
	case "none":
		return nil, fmt.Errorf("%w: Redis has no key %q", ErrNothing, e.RedisKey)
	case "hash":
		return e, e.readFields(ctx, rdb, keys)
	}
	e.Note = "not an entry of tandem: to readers it is a miss, and the next load replaces it"
	return e, nil
}

func (e *Entry) readHead(ctx context.Context, from Source) error {
	now := from.Clock.Time(ctx)
	pipe := from.Redis.Pipeline()
	kind := pipe.Type(ctx, e.RedisKey)
	ttl := pipe.PTTL(ctx, e.RedisKey)
	epoch := pipe.Get(ctx, from.Keys.Epoch(from.Keys.Partition(e.Key)))
	_, _ = pipe.Exec(ctx) // its error is the first command's that has one; they are looked at one by one
	for _, cmd := range []redis.Cmder{kind, ttl, now} {
		if err := cmd.Err(); err != nil {
			return err
		}
	}
	e.Type, e.now, e.TTL = kind.Val(), now.Val(), ttl.Val().Milliseconds()
	if ttl.Val() < 0 {
		e.TTL = -1
	}
	if n, err := remote.ParseStoredEpoch(epoch.Val()); epoch.Err() == nil && err == nil {
		e.Epoch, e.epoch = remote.EpochText(n), &n
	}
	return nil
}

// readFields sorts the fields of the hash by schema.
func (e *Entry) readFields(ctx context.Context, rdb redis.UniversalClient, keys remote.Keys) error {
	n, err := rdb.HLen(ctx, e.RedisKey).Result()
	if err != nil {
		return err
	}
	if n > maxFields {
		e.Note = fmt.Sprintf("a hash of %d fields, which are not an entry's", n)
		return nil
	}
	names, err := rdb.HKeys(ctx, e.RedisKey).Result()
	if err != nil {
		return err
	}
	slices.Sort(names)
	bySchema := make(map[string]*Schema)
	for _, name := range names {
		field, suffix := splitField(name)
		if !schemaField.MatchString(field) {
			e.Foreign = append(e.Foreign, name)
			continue
		}
		s := bySchema[field]
		if s == nil {
			s = &Schema{Field: field}
			bySchema[field] = s
			e.Schemas = append(e.Schemas, s)
		}
		if err := e.readField(ctx, rdb, s, name, suffix); err != nil {
			return err
		}
	}
	for _, s := range e.Schemas {
		if err := s.judgeTags(ctx, rdb, keys, keys.Partition(e.Key)); err != nil {
			return err
		}
	}
	return nil
}

func splitField(name string) (field, suffix string) {
	for _, suffix := range []string{leaseSuffix, waiterSuffix, tagSuffix} {
		if field, ok := strings.CutSuffix(name, suffix); ok {
			return field, suffix
		}
	}
	return name, ""
}

func (e *Entry) readField(ctx context.Context, rdb redis.UniversalClient, s *Schema, name, suffix string) error {
	size, err := rdb.HStrLen(ctx, e.RedisKey, name).Result()
	if err != nil {
		return err
	}
	if size > maxFieldBytes {
		s.fail(StateTooLarge, fmt.Sprintf("%s has %d bytes, which are not read", name, size))
		return nil
	}
	value, err := rdb.HGet(ctx, e.RedisKey, name).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil // gone in this moment
	}
	if err != nil {
		return err
	}
	switch suffix {
	case leaseSuffix:
		s.Lease = readLease(string(value), e.now)
	case waiterSuffix:
		s.Waiters = strings.Fields(string(value))
	case tagSuffix:
		s.versions = string(value)
	default:
		s.readEnvelope(value, e)
	}
	return nil
}
