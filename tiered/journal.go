package tiered

import (
	"slices"
	"sync"

	"github.com/tandemcache/tandem/internal/mono"
)

// journal remembers what this instance has invalidated, with Redis' confirmation, since it sent the last heartbeat that
// succeeded. A server that takes over has everything from before that heartbeat, or its beat.lua starts a new epoch; what
// came after may be lost with the old server, and becomes pending again.
type journal struct {
	maxKeys, maxBytes int // as those of pending

	mu      sync.Mutex // protects what follows
	moves   uint64     // how often another server has taken over
	records []record   // in the order of their times
	keys    int        // and tags
	bytes   int
	all     int64 // when everything was invalidated, mono.Never if it was not
}

type record struct {
	at   int64 // when Redis had confirmed, by mono
	keys []string
	tags []string
}

func (r record) count() int { return len(r.keys) + len(r.tags) }
func (r record) bytes() int { return sizeOf(r.keys) + sizeOf(r.tags) }

// newJournal returns that of one of so many parts.
func newJournal(parts int) *journal {
	return &journal{maxKeys: maxPendingKeys / parts, maxBytes: maxPendingBytes / parts, all: mono.Never}
}

// begin is called before an invalidation is sent. Its result is for add or addAll.
func (j *journal) begin() (moves uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.moves
}

// add remembers an invalidation that Redis has confirmed. False means that another server has taken over since begin, and
// take may have been before: the invalidation is to be repeated.
func (j *journal) add(moves uint64, keys []string) bool {
	return j.addRecord(moves, record{keys: keys})
}

// addTags is add for tags.
func (j *journal) addTags(moves uint64, tags []string) bool {
	return j.addRecord(moves, record{tags: tags})
}

func (j *journal) addRecord(moves uint64, r record) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if moves != j.moves {
		return false
	}
	r.at = mono.Now()
	j.records = append(j.records, r)
	j.keys += r.count()
	j.bytes += r.bytes()
	if j.keys > j.maxKeys || j.bytes > j.maxBytes {
		j.collapseLocked()
	}
	return true
}

// addAll is add for everything of the cache.
func (j *journal) addAll(moves uint64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if moves != j.moves {
		return false
	}
	j.collapseLocked()
	return true
}

func (j *journal) collapseLocked() {
	j.all = mono.Now()
	j.records, j.keys, j.bytes = nil, 0, 0
}

// trim forgets what was confirmed before a heartbeat was sent that has succeeded.
func (j *journal) trim(sent int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for n < len(j.records) && j.records[n].at < sent {
		j.keys -= j.records[n].count()
		j.bytes -= j.records[n].bytes()
		n++
	}
	j.records = slices.Delete(j.records, 0, n)
	if j.all < sent {
		j.all = mono.Never
	}
}

// take returns what there is and forgets it: another server has taken over.
func (j *journal) take() (keys, tags []string, all bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range j.records {
		keys = append(keys, r.keys...)
		tags = append(tags, r.tags...)
	}
	all = j.all != mono.Never
	j.moves++
	j.records, j.keys, j.bytes, j.all = nil, 0, 0, mono.Never
	return keys, tags, all
}

func sizeOf(keys []string) int {
	n := 0
	for _, key := range keys {
		n += len(key)
	}
	return n
}
