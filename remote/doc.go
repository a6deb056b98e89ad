// Package remote is the second tier: envelopes in a Redis that many instances share, and the leases that decide who may
// write them.
//
// # Layout
//
// Everything of one cache carries its name as hash tag, so that whatever one script touches shares a slot:
//
//	tandem:{users}:k:42       HASH    the entry of key "42"
//	tandem:{users}:epoch      STRING  16 hex digits, random, replaced by InvalidateAll; ":" and a note of the heartbeat's
//	tandem:{users}:t:red      STRING  the version of tag "red": what the counter held when it was made
//	tandem:{users}:tags       STRING  the counter of invalidations by tag: 16 random hex digits, ":", a number
//	tandem:{users}:instances  HASH    the instances that acknowledge invalidations, see package pubsub
//	tandem:{users}:bus:0      channel invalidations, with the number of the logical database
//
// In a Redis Cluster a cache is divided into partitions, and all of one has the partition's hash tag, which all caches share.
// Its messages are published in its slot (SPUBLISH). A partition is to its entries what the cache is otherwise: it has an epoch,
// versions of tags and a channel of its own.
//
//	tandem:users:{1f}:k:42      the entry of key "42", whose partition has the tag "1f"; see internal/partition
//	tandem:users:{1f}:epoch     and so on
//	tandem:users:layout         STRING, how the cache is divided; of all of it, in a slot of its own
//
// The entry's hash has three fields, four with tags, for each schema (a codec's name and the fingerprint of the value's type), so that two
// releases whose value types differ can run side by side without replacing each other's entries:
//
//	cbor-1.3f2a90c1d4e5b687      the envelope
//	cbor-1.3f2a90c1d4e5b687.l    the lease: when it expires in Redis time (13 digits, ms), a colon, 32 hex digits of token
//	cbor-1.3f2a90c1d4e5b687.w    the private channels of instances that wait for the lease's holder, space-separated
//	cbor-1.3f2a90c1d4e5b687.t    the versions of its tags when it was stored, space-separated; the envelope tells the tags
//
// The lease lives beside the value and nowhere else. So deleting the one key is a complete invalidation: the value is
// gone, and with it the right of every load under way to store what it has read before. The key always has a TTL.
//
// # Leases
//
// A lease is the right to load one missing entry: a random token, valid while it stands in the entry. Whoever loads takes
// it with [Store.Acquire] before reading the source, and [Store.Fill] stores only while the token is still there. An
// invalidation in between has deleted it, so a value that was read before the invalidation cannot be stored after it. A
// lease that is lost (evicted, flushed, failed over) can only refuse a fill, never let a wrong one in. Its expiry bounds
// how long others wait for a holder that died; it is not what makes a fill right. (After "leases" in "Scaling Memcache
// at Facebook", NSDI 2013.)
//
// # Tags
//
// An invalidation by tag deletes the tag's version and counts, in one script, however many entries there are. An entry is
// found only while its tags have the versions that it was stored with, which every read compares in the same step; so a
// version that is lost (evicted, flushed) is a miss. Which tags a value has is known only when it has been loaded: so a lease
// notes the counter, and a fill is refused if one of its tags has a version that was made of a later one, or has none and
// there is a later one.
//
// # Time
//
// All times in Redis are Redis' own (TIME), in milliseconds. No clock of an instance is stored or compared.
//
// The package knows nothing of the first tier or of the bus: what is published with a change is handed in as bytes.
package remote
