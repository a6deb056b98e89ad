// Package local is the first tier: decoded values in this process, kept by Ristretto within a budget in bytes of heap.
//
// What it adds to Ristretto is the answer to one question, asked at every hit: may this copy still be served? Ristretto
// applies writes late, in an order of its own, and may drop or resurrect them: of two Sets of a new key the older can
// win, and a deleted value can come back. Nothing here relies on that order. Instead:
//
//   - A [Ticket] is taken before the value is read from anywhere. It carries the version of the slot that the key hashes to, the
//     session, and the time.
//   - [Store.Evict] adds one to the slot's version, and drops the key's entry. An entry is served from when it was seen in
//     Ristretto with its ticket's version still the slot's, until it is dropped: whichever comes first, eviction or storing,
//     one of the two sees the other. [Store.Flush], [Store.Begin] and [Store.End] replace the session, which makes all
//     its entries void at once in O(1).
//   - [Store.EvictTags] does so for all entries of a tag at once: their slots of tags say when, and every hit of an entry that
//     has tags ([Store.Tagged]) compares them.
//   - An entry is served only while now - max(its ticket's time, its session's proof) <= Options.MaxStaleness. A session
//     that stops proving that it hears invalidations ([Store.Prove]) ends by itself, with nobody having to notice.
//   - Keys are in partitions, each of which is heard of by a way of its own: a session, its proof and an eviction of tags are a
//     partition's, and whatever becomes of one leaves the others as they are. Budget, slots and evictions of keys are the
//     store's.
//
// The idea of the ticket is the lease of "Scaling Memcache at Facebook" (NSDI 2013), applied inside the process.
//
// The package knows nothing of Redis, and imports none of the other tiers.
package local
