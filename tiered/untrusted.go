package tiered

import (
	"math"
	"sync"
	"time"

	"github.com/tandemcache/tandem/internal/mono"
)

// untrusted adds up the time in which L1 has no proof. It is a gauge and decides nothing: the rule of a hit is in local.
type untrusted struct {
	bound int64 // nanoseconds

	mu    sync.Mutex // protects what follows
	until int64      // by mono: to when the last proof reaches; or, without any, from when there was none
	lost  int64      // nanoseconds until then
}

func newUntrusted(bound time.Duration) *untrusted {
	return &untrusted{bound: int64(bound), until: mono.Now()}
}

// prove says that L1 is trusted until bound after at.
func (u *untrusted) prove(at int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := mono.Now()
	if until := at + u.bound; until > now {
		u.countLocked(now)
		u.until = max(u.until, until)
	}
}

// drop says that there is no proof from now on.
func (u *untrusted) drop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := mono.Now()
	u.countLocked(now)
	u.until = min(u.until, now)
}

// stop says that nobody asks L1 any more.
func (u *untrusted) stop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.countLocked(mono.Now())
	u.until = math.MaxInt64
}

func (u *untrusted) total() time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.countLocked(mono.Now())
	return time.Duration(u.lost)
}

func (u *untrusted) countLocked(now int64) {
	if u.until < now {
		u.lost += now - u.until
		u.until = now
	}
}
