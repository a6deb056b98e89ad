package tiered

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"regexp"
	"time"

	"github.com/tandemcache/tandem/local"
	"github.com/tandemcache/tandem/remote/codec"
)

// Off turns an option off where its comment says so. Any negative value does.
const Off = -1

// What the zero value of each option means.
const (
	DefaultTTL           = 10 * time.Minute
	DefaultLocalTTL      = time.Minute
	DefaultNotFoundTTL   = 30 * time.Second
	DefaultJitter        = 0.1
	DefaultMaxStaleness  = 2 * time.Second
	DefaultLoadTimeout   = 10 * time.Second
	DefaultRedisTimeout  = 250 * time.Millisecond
	DefaultLeaseWait     = 2 * time.Second
	DefaultCloseTimeout  = time.Second
	DefaultLocalBytes    = 64 << 20
	DefaultMaxEntryBytes = 1 << 20
	DefaultPipelines     = 3
)

const (
	minStaleness     = 50 * time.Millisecond
	minDuration      = time.Millisecond // Redis' resolution
	maxMaxEntryBytes = 512 << 20        // Redis' limit for a string
	maxMaxLoads      = 1_000_000
	maxPipelines     = 1000
	maxDuration      = 10 * 365 * 24 * time.Hour
)

// LoadFunc reads one value from the source. It returns ErrNotFound (or an error that Options.IsNotFound accepts) for a key
// that the source does not have.
//
// It runs on a goroutine of its own, with no lock held. Its context has the values of the call that started the load (a
// trace, but also a tenant or a user: a value that depends on those must have them in its key) and not its cancellation: it
// ends after Options.LoadTimeout or when the cache is closed. All who ask for the key meanwhile share the result. A panic
// becomes a *PanicError for all of them.
//
// It must read what was committed last: a loader that reads from a replica which lags behind brings old values back.
type LoadFunc[V any] func(ctx context.Context, key string) (V, error)

// Options configures a Cache. The zero value of each field is a sound default. New copies it and changes nothing in it.
type Options[V any] struct {
	// Load reads a missing value from the source. Nil: LoadMany of one; without that too, Get of a missing key returns
	// ErrNotFound, and nothing is stored.
	Load LoadFunc[V]
	// LoadMany reads several missing values from the source at once, for GetMany. Nil: GetMany calls Load for each. Where Load
	// is nil, a Get of one key is a LoadMany of one.
	LoadMany LoadManyFunc[V]

	// TTL is how long a value stays in Redis, at least MaxStaleness. Zero: 10 minutes.
	TTL time.Duration
	// LocalTTL is how long a value stays in this process at most, and never longer than in Redis. Zero: 1 minute. Off: L1
	// is not used.
	LocalTTL time.Duration
	// NotFoundTTL is how long the answer "not found" stays in both tiers. Zero: 30 seconds. Off: it is not cached.
	NotFoundTTL time.Duration
	// TTLFor returns the TTL of one value, which the loader may know best. Zero: TTL. Off: the value is returned and not
	// stored. It goes before TTL, and after the TTL of GetOptions or SetOptions. A result that is shorter than MaxStaleness
	// is an error of Set; for a loaded value it is counted, logged, and the value is not stored. It must be fast, and its
	// panic is contained.
	TTLFor func(key string, v V) time.Duration
	// RefreshAfter is the age from which a value that is read is loaded anew in the background, at least MaxStaleness and less
	// than TTL; a value with a shorter TTL is refreshed shortly before it expires. Readers get the value that is there at once,
	// and one instance in the fleet loads, or with NoLease each. Jitter shortens the age, and so does a load that takes long, at
	// random and down to half of it. A refresh that fails is logged, counted, and repeated at growing intervals; the value stays.
	// Without Redis nothing is refreshed. Zero: no refresh.
	RefreshAfter time.Duration
	// StaleIfError is for how long past its TTL a value is kept for the case that the loader fails: with an error, a panic or
	// a timeout. Get then returns the expired value; GetOptions.Stale and Stats tell. "Not found" is no failure. A value that
	// was invalidated is never returned, nor is one of which nobody can tell, because Redis is away for longer than
	// MaxStaleness: then the loader's error is. Zero: errors are returned.
	StaleIfError time.Duration
	// SoftTimeout is how long a Get waits for a load while there is an expired value within StaleIfError. It then returns
	// that, and the load goes on and stores its result. Less than LoadTimeout; needs StaleIfError. Zero: it waits for the load.
	SoftTimeout time.Duration
	// Jitter shortens each TTL by a random part of up to this fraction, so that what was stored together does not expire
	// together. From 0 to below 1. Zero: 0.1. Off: none.
	Jitter float64

	// MaxStaleness bounds how long another instance may serve an old value after a Set or Invalidate has returned,
	// whatever is lost or broken. The instance proves three times within it that it hears invalidations; without proof L1
	// is not used. At least 50 ms. Zero: 2 seconds. All instances of a cache should have the same.
	MaxStaleness time.Duration
	// Acknowledge has InvalidateAndWait return as soon as every instance has acknowledged, which takes a few round trips,
	// instead of after MaxStaleness. The price: an instance without proof uses no L1 at all and shares no load that has begun;
	// each key is then loaded up to twice at once in a process. All instances of a cache must have the same.
	Acknowledge bool
	// LoadTimeout bounds a call of the loader. Zero: 10 seconds. Off: no bound. A loader that takes long wants a LeaseWait that
	// is as long, or every instance loads.
	LoadTimeout time.Duration
	// MaxLoads bounds how many loads without a lease run at once in this process, as all are while Redis is away. The others
	// wait, LoadTimeout at most. Up to 1,000,000. Zero: no bound.
	MaxLoads int
	// RedisTimeout bounds what one Get, Set or Invalidate spends on waiting for Redis in all. Zero: 250 ms.
	RedisTimeout time.Duration
	// LeaseWait is how long a Get waits for another instance that is loading the same key, before it loads by itself and
	// stores nothing. Zero: 2 seconds. Off: it does not wait.
	LeaseWait time.Duration
	// NoLease has instances that miss a key at the same time each load it, instead of one for all. A miss costs two round trips
	// rather than three, and a value that is in Redis a little more. For a source that is faster than Redis.
	NoLease bool
	// Pipelines is how many reads from Redis a process sends singly; further ones that come meanwhile share round trips, which
	// is several times the throughput. Zero: 3. Off: each is sent singly.
	Pipelines int
	// CloseTimeout bounds what Close spends on invalidations that Redis has not taken yet. Zero: 1 second.
	CloseTimeout time.Duration

	// LocalBytes is the budget of L1 in bytes of heap, at least 1 MiB. Zero: 64 MiB.
	LocalBytes int64
	// Cost returns the bytes of heap that a value keeps alive beside its own fields, for the budget. Nil: an estimate by
	// reflection. It must be fast, and its panic is contained.
	Cost func(V) int64
	// Clone returns a copy of a value that shares nothing with it that may change. With it each caller gets a copy of his own,
	// made by his own goroutine. Nil: callers share the value. A panic is returned as a *PanicError.
	Clone func(V) V
	// MaxEntryBytes bounds an entry in Redis, up to 512 MiB: a larger value is not stored, a larger entry not read. Zero: 1 MiB.
	MaxEntryBytes int

	// Codec turns values into bytes for Redis. Nil: bytes as they are if V is a string or []byte, else codec.Default, which
	// understands the json tags of structs. Entries of other codecs and of other types V are misses and stay unharmed.
	Codec codec.Codec
	// IsNotFound reports whether an error of the loader means that the source does not have the key, as sql.ErrNoRows does.
	// ErrNotFound always does. Get then returns ErrNotFound, not the loader's error. Its panic is contained and means no.
	IsNotFound func(error) bool

	// Tags returns the tags of a value, for InvalidateTags: at most 32, of 1 to 255 bytes each. It is asked once for each value
	// that is loaded or set. Nil: values have none. It must be fast. If it panics or returns what are no tags, a loaded value is
	// returned and not stored, which is counted and logged, and Set returns ErrInvalidTag.
	//
	// All instances of a cache should have the same. One without it obeys the tags of what others have stored; what it stores
	// itself has none, and those that have Tags load it anew.
	Tags func(key string, v V) []string
	// Tracking has Redis itself tell this instance of every change to the cache's entries, by a connection more (CLIENT TRACKING in
	// broadcast mode, Redis 6): so a DEL, a write or a FLUSHALL by redis-cli, or by a program in another language, reaches L1 too.
	// What L1 holds of a key that was changed is compared with what Redis has then, and dropped unless it is the same value.
	//
	// It is beside the bus, whose promises hold without it, and promises less. While Health.Tracking is true and Redis answers, a
	// Get that starts more than MaxStaleness after such a change does not return from L1 what was read before it; mostly it is
	// milliseconds. A Get that shares a load under way may, and so may every Get while that connection is broken: when it is back,
	// L1 is dropped. Where Redis refuses, that is logged, and the cache works as without. What Redis expires or evicts leaves L1 too.
	//
	// Each lease and each fill of any instance is told to every instance: two messages for a load, one more for each second of it,
	// and a read from Redis by each instance that holds the key. More than 4096 keys that wait for that read drop L1.
	Tracking bool

	// Bus is a connection to Redis that several caches share; it must be made from the same client. Nil: the cache has its own.
	Bus *Bus
	// Logger gets what an operator should know, each cause at most once a minute, from a goroutine of its own: one that blocks
	// holds up nothing. Nil: slog.Default().
	Logger *slog.Logger
	// Observer is told of loads, calls to Redis, invalidations and sessions, for metrics and traces; see its comment for what
	// one that is slow holds up. tieredprom and tieredotel have one each. Nil: none.
	Observer Observer
	// AuditEvery has an entry of L1 compared with what Redis has of its key, one each time, at the price of a read. Where Redis
	// has a value that was loaded or set later, and the entry is served for MaxStaleness more, an invalidation was lost, or the
	// source changes without one: that is counted in Stats.Diverged, logged, told to Observer, and the entry dropped. At least
	// 1 ms. Zero: no audit.
	AuditEvery time.Duration
}

// withDefaults returns a copy with every zero field replaced.
func (o Options[V]) withDefaults() Options[V] {
	o.TTL = cmp.Or(o.TTL, DefaultTTL)
	o.LocalTTL = cmp.Or(o.LocalTTL, DefaultLocalTTL)
	o.NotFoundTTL = cmp.Or(o.NotFoundTTL, DefaultNotFoundTTL)
	o.Jitter = cmp.Or(o.Jitter, DefaultJitter)
	o.MaxStaleness = cmp.Or(o.MaxStaleness, DefaultMaxStaleness)
	o.LoadTimeout = cmp.Or(o.LoadTimeout, DefaultLoadTimeout)
	o.RedisTimeout = cmp.Or(o.RedisTimeout, DefaultRedisTimeout)
	o.LeaseWait = cmp.Or(o.LeaseWait, DefaultLeaseWait)
	o.CloseTimeout = cmp.Or(o.CloseTimeout, DefaultCloseTimeout)
	o.LocalBytes = cmp.Or(o.LocalBytes, DefaultLocalBytes)
	o.MaxEntryBytes = cmp.Or(o.MaxEntryBytes, DefaultMaxEntryBytes)
	o.Pipelines = cmp.Or(o.Pipelines, DefaultPipelines)
	if o.Load == nil && o.LoadMany != nil {
		o.Load = o.LoadMany.one
	}
	if o.Codec == nil {
		o.Codec = codec.For[V]()
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

var codecName = regexp.MustCompile(`^[a-z0-9-]{1,16}$`)

// validate returns an error for each field that is out of its bounds, joined.
func (o Options[V]) validate() error {
	var v validator
	v.duration("MaxStaleness", o.MaxStaleness, minStaleness, "", false)
	v.duration("TTL", o.TTL, max(o.MaxStaleness, minDuration), " (MaxStaleness)", false)
	v.duration("LocalTTL", o.LocalTTL, minDuration, "", true)
	v.duration("NotFoundTTL", o.NotFoundTTL, minDuration, "", true)
	v.duration("LoadTimeout", o.LoadTimeout, minDuration, "", true)
	o.validateAging(&v)
	v.duration("RedisTimeout", o.RedisTimeout, minDuration, "", false)
	v.duration("LeaseWait", o.LeaseWait, minDuration, "", true)
	v.duration("CloseTimeout", o.CloseTimeout, minDuration, "", false)
	if o.AuditEvery != 0 {
		v.duration("AuditEvery", o.AuditEvery, minDuration, "", false)
	}
	if !(o.Jitter < 1) || math.IsInf(o.Jitter, 0) {
		v.fail("Jitter", o.Jitter, "must be below 1")
	}
	if o.MaxLoads < 0 || o.MaxLoads > maxMaxLoads {
		v.fail("MaxLoads", o.MaxLoads, fmt.Sprintf("must be from 0 to %d", maxMaxLoads))
	}
	if o.LocalBytes < local.MinBytes {
		v.fail("LocalBytes", o.LocalBytes, fmt.Sprintf("must be at least %d", local.MinBytes))
	}
	if o.MaxEntryBytes < 1 || o.MaxEntryBytes > maxMaxEntryBytes {
		v.fail("MaxEntryBytes", o.MaxEntryBytes, fmt.Sprintf("must be from 1 to %d", maxMaxEntryBytes))
	}
	if o.Pipelines > maxPipelines {
		v.fail("Pipelines", o.Pipelines, fmt.Sprintf("must be at most %d", maxPipelines))
	}
	if name, err := nameOf(o.Codec); err != nil || !codecName.MatchString(name) {
		v.fail("Codec", fmt.Sprintf("%T with the name %q", o.Codec, name), "the name must match "+codecName.String())
	}
	return errors.Join(v.errs...)
}

// validateAging checks what lets a value be served that is older than it might be.
func (o Options[V]) validateAging(v *validator) {
	if o.RefreshAfter != 0 {
		v.duration("RefreshAfter", o.RefreshAfter, max(o.MaxStaleness, minDuration), " (MaxStaleness)", true)
	}
	if o.RefreshAfter >= o.TTL && o.TTL > 0 {
		v.fail("RefreshAfter", o.RefreshAfter, fmt.Sprintf("must be less than %v (TTL)", o.TTL))
	}
	if o.StaleIfError != 0 {
		v.duration("StaleIfError", o.StaleIfError, minDuration, "", true)
	}
	if o.SoftTimeout != 0 {
		v.duration("SoftTimeout", o.SoftTimeout, minDuration, "", true)
	}
	switch {
	case o.SoftTimeout <= 0:
	case o.StaleIfError <= 0:
		v.fail("SoftTimeout", o.SoftTimeout, "needs StaleIfError, without which no expired value is kept")
	case o.LoadTimeout > 0 && o.SoftTimeout >= o.LoadTimeout:
		v.fail("SoftTimeout", o.SoftTimeout, fmt.Sprintf("must be less than %v (LoadTimeout)", o.LoadTimeout))
	}
}

type validator struct{ errs []error }

func (v *validator) fail(field string, value any, bound string) {
	v.errs = append(v.errs, fmt.Errorf("%w: Options.%s is %v, %s", ErrInvalidOption, field, value, bound))
}

func (v *validator) duration(field string, d, least time.Duration, what string, offAllowed bool) {
	switch {
	case d < 0 && offAllowed:
	case d < least:
		v.fail(field, d, fmt.Sprintf("must be at least %v%s", least, what))
	case d > maxDuration:
		v.fail(field, d, fmt.Sprintf("must be at most %v", maxDuration))
	}
}

// GetOptions are what a single GetWith does differently.
type GetOptions[V any] struct {
	// Load is the loader for this call. Nil: Options.Load. Calls that share a load get the result of the loader that
	// started it, so all loaders of one key must be equivalent.
	Load LoadFunc[V]
	// TTL is how long the value stays in Redis if this call loads it or has it refreshed, at least Options.MaxStaleness. Zero:
	// Options.TTLFor, then Options.TTL.
	TTL time.Duration
	// Stale, if not nil, is set to whether the value has expired and stands in for a load that failed or takes long.
	Stale *bool
}

// SetOptions are what a single SetWith does differently.
type SetOptions struct {
	// TTL is how long the value stays in Redis, at least Options.MaxStaleness. Zero: Options.TTLFor, then Options.TTL.
	TTL time.Duration
}

func (c *Cache[V]) checkTTL(field string, ttl time.Duration) error {
	if ttl == 0 || (ttl >= c.opts.MaxStaleness && ttl <= maxDuration) {
		return nil
	}
	return fmt.Errorf("%w: %s is %v, must be from %v (MaxStaleness) to %v", ErrInvalidOption, field, ttl, c.opts.MaxStaleness, maxDuration)
}
