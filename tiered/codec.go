package tiered

import (
	"fmt"
	"reflect"
	"time"

	"github.com/tandemcache/tandem/remote"
	"github.com/tandemcache/tandem/remote/codec"
)

// What belongs to the user (the codec, TTLFor, Tags, IsNotFound, Cost) is called through the functions here, which turn a panic
// into an error.

func contain(what string, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%s panicked: %v", what, p)
	}
}

func nameOf(c codec.Codec) (name string, err error) {
	defer contain("Codec.Name", &err)
	return c.Name(), nil
}

func schemaOf[V any](c codec.Codec) (s remote.Schema, err error) {
	defer contain("Codec", &err)
	if err := codec.Check(c, reflect.TypeFor[V]()); err != nil {
		return remote.Schema{}, err
	}
	return remote.Schema{Codec: c.Name(), Type: codec.Fingerprint(c, reflect.TypeFor[V]())}, nil
}

// encode returns the payload of v, which has these tags, or an error that wraps ErrEncode or ErrTooLarge.
func (c *Cache[V]) encode(key string, v V, tags []string) ([]byte, error) {
	b, err := marshal(c.opts.Codec, c.entry(key), v)
	if err != nil {
		return nil, fmt.Errorf("%w: key %.64q, codec %s: %w", ErrEncode, key, c.schema.Codec, err)
	}
	n := len(b) + remote.EnvelopeOverhead
	if c.opts.Tags != nil {
		n += remote.TagsOverhead(tags)
	}
	if n > c.opts.MaxEntryBytes {
		return nil, fmt.Errorf("%w: key %.64q has %d bytes, Options.MaxEntryBytes is %d", ErrTooLarge, key, n, c.opts.MaxEntryBytes)
	}
	return b, nil
}

// entry is what a codec that binds bytes to their entry is told of key's.
func (c *Cache[V]) entry(key string) codec.Entry {
	return codec.Entry{Cache: c.name, Key: key, Type: c.schema.Type}
}

func marshal[V any](c codec.Codec, e codec.Entry, v V) (b []byte, err error) {
	defer contain("Codec.Marshal", &err)
	if reflect.TypeFor[V]().Kind() == reflect.Interface {
		// In an interface the codec would see what is in it and not V, and write what Unmarshal into V reads differently.
		return codec.MarshalFor(c, e, &v)
	}
	return codec.MarshalFor(c, e, v)
}

func unmarshal[V any](c codec.Codec, e codec.Entry, b []byte) (v V, err error) {
	defer contain("Codec.Unmarshal", &err)
	err = codec.UnmarshalFor(c, e, b, &v)
	return v, err
}

// ttlFor returns how long v is to stay in Redis, jitter not included; not positive means not at all.
func (c *Cache[V]) ttlFor(key string, v V, perCall time.Duration) (ttl time.Duration, err error) {
	if perCall > 0 {
		return perCall, nil
	}
	if c.opts.TTLFor == nil {
		return c.opts.TTL, nil
	}
	defer contain("Options.TTLFor", &err)
	ttl = c.opts.TTLFor(key, v)
	if ttl == 0 {
		return c.opts.TTL, nil
	}
	if ttl > 0 {
		err = c.checkTTL("the result of Options.TTLFor", ttl)
	}
	return ttl, err
}

func (c *Cache[V]) isNotFound(err error) (is bool) {
	var failed error
	defer func() {
		if failed != nil {
			c.logger.Log(levelWarn, "IsNotFound", "tandem: Options.IsNotFound failed", "cache", c.name, "error", failed)
		}
	}()
	defer contain("Options.IsNotFound", &failed)
	return c.opts.IsNotFound(err)
}

// containedCost makes a user's cost function safe to call from L1.
func containedCost[V any](cost func(V) int64) func(V) int64 {
	if cost == nil {
		return nil
	}
	return func(v V) (n int64) {
		var err error
		defer contain("Options.Cost", &err)
		return cost(v)
	}
}
