package tiered

import "sync/atomic"

// counters are what Stats reports, except for what the tiers count themselves.
type counters struct {
	remoteHits, remoteMisses    atomic.Uint64
	loads, loadErrors, notFound atomic.Uint64
	joined, leaseWaits          atomic.Uint64
	fills, refused              atomic.Uint64
	badEntries, unstored        atomic.Uint64
	redisErrors                 atomic.Uint64
	sets, invalidated, received atomic.Uint64
	unreadable, sessions        atomic.Uint64
	tracked                     atomic.Uint64
	replayed                    atomic.Uint64
	refreshes, refreshErrors    atomic.Uint64
	refreshSkipped, unchanged   atomic.Uint64
	stale                       atomic.Uint64
	loadTime                    atomic.Uint64 // ns
	audited, diverged           atomic.Uint64
	loadsWaiting                atomic.Int64 // for a slot
}
