package remote

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tandemcache/tandem/internal/partition"
)

const (
	// MaxKeyBytes is the longest key.
	MaxKeyBytes = 8 << 10
	// MaxNameBytes is the longest name of a cache.
	MaxNameBytes = 64

	prefix   = "tandem:{"
	entryTag = "}:k:"

	// partPrefix is prefix where the hash tag is a partition's and the cache's name stands before it. No name of a cache begins
	// with a brace, so neither can be taken for the other.
	partPrefix = "tandem:"
	partTag    = ":{"

	bus = "bus:"
)

var (
	// ErrKey is returned for a key that is empty or longer than MaxKeyBytes.
	ErrKey = errors.New("invalid key")
	// ErrName is returned for a cache name that is not 1 to MaxNameBytes of [A-Za-z0-9._-].
	ErrName = errors.New("invalid cache name")

	tagPattern  = regexp.MustCompile(`^[0-9a-z]{1,8}$`) // more than internal/partition ever needs
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

// Keys names what one cache has in Redis, with all its partitions: one, number 0, unless it is in a cluster. All of a partition
// shares the hash tag, so whatever one script touches shares a slot. It may be used concurrently; copies share what they hold.
type Keys struct {
	name    string
	table   partition.Table // none where there is one partition
	parts   []part
	sharded bool // messages are published in the slot
}

// part has what most calls need of one partition, made once.
type part struct {
	prefix  string // with the colon behind the hash tag
	epoch   string
	channel string // of logical database 0
}

// KeysFor returns the keys of the cache called name on a single Redis, or an error that wraps ErrName.
func KeysFor(name string) (Keys, error) {
	if err := CheckName(name); err != nil {
		return Keys{}, err
	}
	return Keys{name: name, parts: []part{partOf(prefix + name)}}, nil
}

// ClusterKeys returns the keys of the cache called name in a cluster, divided as t says. It returns an error that wraps ErrName,
// or partition.ErrCount if t is the zero Table.
func ClusterKeys(name string, t partition.Table) (Keys, error) {
	if err := CheckName(name); err != nil {
		return Keys{}, err
	}
	if t.Count() == 0 {
		return Keys{}, fmt.Errorf("%w: 0", partition.ErrCount)
	}
	k := Keys{name: name, table: t, parts: make([]part, t.Count()), sharded: true}
	for i := range k.parts {
		k.parts[i] = partOf(partPrefix + name + partTag + t.Tag(i))
	}
	return k, nil
}

// partOf returns the names of a partition; they begin with this and the end of the hash tag.
func partOf(begin string) part {
	p := part{prefix: begin + "}:"}
	p.epoch, p.channel = p.prefix+"epoch", p.prefix+bus+"0"
	return p
}

// Partitions returns how many partitions there are. Their numbers are from 0; methods panic where there is none of a number.
func (k Keys) Partitions() int { return len(k.parts) }

// Partition returns the partition of a key.
func (k Keys) Partition(key string) int {
	if len(k.parts) == 1 {
		return 0
	}
	return k.table.Of(key)
}

func (k Keys) part(key string) *part { return &k.parts[k.Partition(key)] }

// Entry is the HASH of one entry, in its partition.
func (k Keys) Entry(key string) string { return k.part(key).entry(key) }

func (p *part) entry(key string) string { return p.prefix + "k:" + key }

// Entries is what the keys of all entries of partition p begin with.
func (k Keys) Entries(p int) string { return k.parts[p].prefix + "k:" }

// Epoch is the STRING that every envelope of partition p must agree with.
func (k Keys) Epoch(p int) string { return k.parts[p].epoch }

// Instances is the HASH of the instances that hear the channel of partition p.
func (k Keys) Instances(p int) string { return k.parts[p].prefix + "instances" }

// Tag is the STRING with a tag's version in partition p. Beside it lies the counter that versions are made of: see
// scripts/tags.lua.
func (k Keys) Tag(p int, tag string) string { return k.parts[p].tag(tag) }

func (p *part) tag(tag string) string { return p.prefix + "t:" + tag }

// Channel is where invalidations of partition p are published. It names the logical database, which Redis' channels ignore.
func (k Keys) Channel(p, db int) string {
	if db == 0 {
		return k.parts[p].channel
	}
	return k.parts[p].prefix + bus + strconv.Itoa(db)
}

// Channels is the pattern of the channels of a cache in a cluster, however it is divided.
func (k Keys) Channels() string { return partPrefix + k.name + partTag + "*}:" + bus + "*" }

// Layout is the STRING that says how a cache in a cluster is divided. It is of the whole cache, and in a slot of its own.
func (k Keys) Layout() string { return partPrefix + k.name + ":layout" }

// inDB returns k with the channels of another logical database.
func (k Keys) inDB(db int) Keys {
	if db == 0 {
		return k
	}
	k.parts = slices.Clone(k.parts)
	for i := range k.parts {
		k.parts[i].channel = k.Channel(i, db)
	}
	return k
}

// ParseEntry is the inverse of Entry: it returns the cache's name and the key, or an error that wraps ErrName or ErrKey. It does
// not look whether the key belongs into the partition that is named.
func ParseEntry(redisKey string) (name, key string, err error) {
	rest, ok := strings.CutPrefix(redisKey, prefix)
	if !ok {
		return parsePartEntry(redisKey)
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

func parsePartEntry(redisKey string) (name, key string, err error) {
	rest, ok := strings.CutPrefix(redisKey, partPrefix)
	if !ok {
		return "", "", fmt.Errorf("%w: %.64q does not start with %s", ErrKey, redisKey, prefix)
	}
	name, rest, tagged := strings.Cut(rest, partTag)
	tag, key, ok := strings.Cut(rest, entryTag)
	if !tagged || !ok || !tagPattern.MatchString(tag) {
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
