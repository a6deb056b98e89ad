package remote

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

const (
	// MaxKeyBytes is the longest key.
	MaxKeyBytes = 8 << 10
	// MaxNameBytes is the longest name of a cache.
	MaxNameBytes = 64

	prefix   = "tandem:{"
	entryTag = "}:k:"
)

var (
	// ErrKey is returned for a key that is empty or longer than MaxKeyBytes.
	ErrKey = errors.New("invalid key")
	// ErrName is returned for a cache name that is not 1 to MaxNameBytes of [A-Za-z0-9._-].
	ErrName = errors.New("invalid cache name")

	namePattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
)

// CheckKey returns an error that wraps ErrKey and says why, or nil. Any bytes may stand in a key.
func CheckKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: it is empty", ErrKey)
	case len(key) > MaxKeyBytes:
		return fmt.Errorf("%w: it has %d bytes, at most %d are allowed", ErrKey, len(key), MaxKeyBytes)
	}
	return nil
}

// CheckName returns an error that wraps ErrName and says why, or nil.
func CheckName(name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("%w %q: it must be 1 to %d of A-Z a-z 0-9 . _ -", ErrName, name, MaxNameBytes)
	}
	return nil
}

// Keys names what one cache has in Redis. All of it shares the hash tag, which is the cache's partition: there is one now,
// and a second one would differ in the tag alone.
type Keys struct{ name string }

// KeysFor returns the keys of the cache called name, or an error that wraps ErrName.
func KeysFor(name string) (Keys, error) {
	if err := CheckName(name); err != nil {
		return Keys{}, err
	}
	return Keys{name: name}, nil
}

// Entry is the HASH of one entry.
func (k Keys) Entry(key string) string { return prefix + k.name + entryTag + key }

// Entries is what the keys of all entries begin with.
func (k Keys) Entries() string { return prefix + k.name + entryTag }

// Epoch is the STRING that every envelope of the cache must agree with.
func (k Keys) Epoch() string { return prefix + k.name + "}:epoch" }

// Instances is the HASH of the instances that hear the channel.
func (k Keys) Instances() string { return prefix + k.name + "}:instances" }

// Tag is the STRING with a tag's version. Beside it lies the counter that versions are made of: see scripts/tags.lua.
func (k Keys) Tag(tag string) string { return prefix + k.name + "}:t:" + tag }

// Channel is where invalidations are published. It names the logical database, which Redis' channels ignore.
func (k Keys) Channel(db int) string { return prefix + k.name + "}:bus:" + strconv.Itoa(db) }

// ParseEntry is the inverse of Entry: it returns the cache's name and the key, or an error that wraps ErrName or ErrKey.
func ParseEntry(redisKey string) (name, key string, err error) {
	rest, ok := strings.CutPrefix(redisKey, prefix)
	if !ok {
		return "", "", fmt.Errorf("%w: %.64q does not start with %s", ErrKey, redisKey, prefix)
	}
	// The first "}:k:" ends the name, which cannot contain one; the key may.
	name, key, ok = strings.Cut(rest, entryTag)
	if !ok {
		return "", "", fmt.Errorf("%w: %.64q is not the key of an entry", ErrKey, redisKey)
	}
	if err := CheckName(name); err != nil {
		return "", "", err
	}
	if err := CheckKey(key); err != nil {
		return "", "", err
	}
	return name, key, nil
}
