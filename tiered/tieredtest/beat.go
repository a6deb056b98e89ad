package tieredtest

import (
	"regexp"
	"strconv"
	"time"

	"github.com/alicebob/miniredis/v2/server"
)

// beatHash names the heartbeat's script whose answer steady knows. Another one is run as it is, only slower.
const beatHash = "796070c5de269cc6132ee5fa7a8f474427028eba"

// Where the heartbeat's script has its keys and arguments.
const (
	beatInbox = iota
	beatMessage
	_ // a random version
	beatTTL
	beatServer
	_ // its offset
	beatRun
	_ // when it was seen
	_ // the message for a version that is replaced
	beatTopics
	beatArgs
)

// And behind the channels, if there are registries.
const (
	beatField = iota
	_         // what to write there
	beatWords
)

// settled is a version that a heartbeat leaves as it is, on a server that does not tell of replication.
var settled = regexp.MustCompile(`^[0-9a-f]{16}:\+\d*$`)

// steady answers a heartbeat that finds nothing to change, as its script would. There are thousands in an hour, which in a
// bubble is to take a moment, and miniredis makes a new interpreter for each script.
func (n *network) steady(c *server.Peer, cmd string, args ...string) bool {
	if cmd != "EVALSHA" || len(args) < 3 || args[0] != beatHash {
		return false
	}
	count, err := strconv.Atoi(args[1])
	if err != nil || count < 1 || len(args) < 2+count+beatArgs {
		return false
	}
	keys, argv := args[3:2+count], args[2+count:]
	topics, err := strconv.Atoi(argv[beatTopics])
	if err != nil || topics < 0 || topics > len(keys) || len(argv) < beatArgs+topics {
		return false
	}
	keys, registries, behind := keys[:topics], keys[topics:], argv[beatArgs+topics:]
	ttl, err := strconv.ParseInt(argv[beatTTL], 10, 64)
	if err != nil || argv[beatServer] != "" || !n.registered(registries, behind, 0) || n.versions(keys, 0) == nil {
		return false
	}
	// First what is heard, then what is read: neither may be of a time before the other's end.
	n.redis.Publish(argv[beatInbox], argv[beatMessage])
	life := time.Duration(ttl) * time.Millisecond
	versions := n.versions(keys, life)
	if versions == nil || !n.registered(registries, behind, life) {
		return false
	}
	now := n.now().UnixMilli()
	c.Block(func(w *server.Writer) {
		w.WriteLen(5 + len(versions) + len(registries))
		w.WriteInt(int(now))
		w.WriteBulk("")
		w.WriteInt(0)
		w.WriteBulk(argv[beatRun])
		w.WriteInt(0)
		for _, version := range versions {
			w.WriteBulk(version)
		}
		for range registries {
			w.WriteInt(1)
		}
	})
	return true
}

// registered reports whether the instance is in the registries with what it wrote last, and lets them live for ttl, unless that
// is zero.
func (n *network) registered(registries, behind []string, ttl time.Duration) bool {
	if len(registries) == 0 {
		return len(behind) == 0
	}
	if len(behind) != beatWords+len(registries) {
		return false
	}
	db := n.redis.DB(0)
	for i, key := range registries {
		if !db.Exists(key) || db.HGet(key, behind[beatField]) != behind[beatWords+i] || behind[beatWords+i] == "" {
			return false
		}
		if ttl > 0 {
			db.SetTTL(key, ttl)
		}
	}
	return true
}

// versions returns what the version keys hold and lets them live for ttl, unless that is zero. It returns nil if one is
// not settled.
func (n *network) versions(keys []string, ttl time.Duration) []string {
	db := n.redis.DB(0)
	found := make([]string, 0, len(keys))
	for _, key := range keys {
		stored, err := db.Get(key)
		if err != nil || !settled.MatchString(stored) {
			return nil
		}
		if ttl > 0 {
			db.SetTTL(key, ttl)
		}
		found = append(found, stored)
	}
	return found
}
