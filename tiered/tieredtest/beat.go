package tieredtest

import (
	"regexp"
	"strconv"
	"time"

	"github.com/alicebob/miniredis/v2/server"
)

// beatHash names the heartbeat's script whose answer steady knows. Another one is run as it is, only slower.
const beatHash = "6ecaca3549e70e91b2d47fde8f82cf6733360b73"

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
	beatArgs
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
	if err != nil || count < 1 || len(args) != 2+count+beatArgs+count-1 {
		return false
	}
	keys, argv := args[3:2+count], args[2+count:]
	ttl, err := strconv.ParseInt(argv[beatTTL], 10, 64)
	if err != nil || argv[beatServer] != "" || n.versions(keys, 0) == nil {
		return false
	}
	// First what is heard, then what is read: neither may be of a time before the other's end.
	n.redis.Publish(argv[beatInbox], argv[beatMessage])
	versions := n.versions(keys, time.Duration(ttl)*time.Millisecond)
	if versions == nil {
		return false
	}
	now := n.now().UnixMilli()
	c.Block(func(w *server.Writer) {
		w.WriteLen(5 + len(versions))
		w.WriteInt(int(now))
		w.WriteBulk("")
		w.WriteInt(0)
		w.WriteBulk(argv[beatRun])
		w.WriteInt(0)
		for _, version := range versions {
			w.WriteBulk(version)
		}
	})
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
