package tiered

import (
	"errors"
	"fmt"
	"time"

	"github.com/tandemcache/tandem/remote"
)

// decoded is an entry of Redis, understood.
type decoded[V any] struct {
	val     V
	absent  bool
	life    time.Duration // until it expires, negative if it has
	age     ages
	payload []byte // what val is decoded from
	tags    []string
}

// use says what can be done with an entry's bytes.
type use int

const (
	usable     use = iota
	otherEpoch     // invalidated, or of an epoch that is newer than the one we know
	expired        // within StaleIfError; val is not decoded
	unusable       // expired, or nothing that this cache can read
)

// open reads the bytes of key's entry. Whatever they are, that is no error of a Get: what cannot be used is replaced by a
// load. An error is for bad to count and log. now is the time of Redis in ms, cleared that of the opening on whose word Redis
// was asked.
func (c *Cache[V]) open(key string, raw []byte, epoch uint64, now int64, cleared uint64) (decoded[V], use, error) {
	var none decoded[V]
	if len(raw) > c.opts.MaxEntryBytes {
		return none, unusable, fmt.Errorf("%w: %d bytes, Options.MaxEntryBytes is %d", remote.ErrTooLarge, len(raw), c.opts.MaxEntryBytes)
	}
	e, err := remote.Decode(raw, key)
	if err == nil && e.Schema != c.schema {
		err = fmt.Errorf("%w: %s, not %s", remote.ErrSchema, e.Schema.Field(), c.schema.Field())
	}
	if err != nil {
		return none, unusable, err
	}
	if e.Epoch != epoch {
		return none, otherEpoch, nil
	}
	if ok, err := c.checkTags(key, e, cleared); !ok {
		return none, unusable, err
	}
	if e.Expires-now > int64(maxDuration/time.Millisecond) || now-e.Expires > int64(maxDuration/time.Millisecond) {
		return none, unusable, nil
	}
	d := decoded[V]{absent: e.Absent, life: time.Duration(e.Expires-now) * time.Millisecond, age: agesOf(e, now), payload: e.Payload, tags: e.Tags}
	switch {
	case d.life > 0:
	case !e.Absent && -d.life < c.opts.StaleIfError:
		return d, expired, nil
	default:
		return none, unusable, nil
	}
	if !e.Absent {
		if d.val, err = unmarshal[V](c.opts.Codec, c.entry(key), e.Payload); err != nil {
			return none, unusable, fmt.Errorf("%w: %w", errUndecodable, err)
		}
	}
	return d, usable, nil
}

var errUndecodable = errors.New("the codec cannot decode it")

// causes are what an entry in Redis can be rejected for; each is logged by itself.
var causes = []error{
	remote.ErrForeign, remote.ErrCorrupt, remote.ErrSchema, remote.ErrTooLarge, remote.ErrWrongType, errUndecodable, errUntagged,
}

// bad counts what cannot be used, and logs it once a minute for each cause.
func (c *Cache[V]) bad(key string, err error) {
	c.count.badEntries.Add(1)
	cause := "other"
	for _, known := range causes {
		if errors.Is(err, known) {
			cause = known.Error()
			break
		}
	}
	c.logger.Log(levelWarn, "bad "+cause, "tandem: an entry in Redis cannot be used, loading instead",
		"cache", c.name, "key", fmt.Sprintf("%.64q", key), "error", err)
}
