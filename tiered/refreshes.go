package tiered

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/local"
)

const (
	// maxRefreshes is how many refreshes a cache runs at once, those of one batch counted as one; further ones are put off until
	// the value is read again.
	maxRefreshes = 16
	// maxRests bounds how many keys are remembered for having been tried. One that is forgotten is tried a little earlier.
	maxRests = 1024
	// longestRest is the longest pause after refreshes of one key that failed.
	longestRest = time.Minute
)

// refreshes are those of one cache that are under way, and the keys that are left alone for a while.
type refreshes struct {
	mu      sync.Mutex // protects what follows
	workers int        // at most maxRefreshes
	running map[string]struct{}
	rests   map[string]rest
}

type rest struct {
	until int64 // by mono
	pause time.Duration
}

// resting is how long a key is left alone after a refresh.
type resting int

const (
	restNot    resting = iota
	restAWhile         // nothing was wrong, and nothing came of it
	restLonger         // longer each time
)

// begin returns those of keys that one worker is to refresh now: not what is under way, or rests. If there are any, end must be
// called for each, and free once. full is how many are put off because as many workers as may run do.
func (r *refreshes) begin(keys ...string) (mine []string, full int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running == nil {
		r.running, r.rests = make(map[string]struct{}), make(map[string]rest)
	}
	for _, key := range keys {
		if _, is := r.running[key]; is {
			continue
		}
		if rest, is := r.rests[key]; is && mono.Now() < rest.until {
			continue
		}
		if r.workers >= maxRefreshes {
			full++
			continue
		}
		r.running[key] = struct{}{}
		mine = append(mine, key)
	}
	if len(mine) > 0 {
		r.workers++
	}
	return mine, full
}

// free is said when a worker has ended all that it began.
func (r *refreshes) free() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.workers--
}

func (r *refreshes) end(key string, how resting) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.running, key)
	last := r.rests[key]
	delete(r.rests, key)
	if how == restNot {
		return
	}
	next := rest{pause: max(last.pause, local.RefreshPause)}
	if how == restLonger && last.pause > 0 {
		next.pause = min(2*last.pause, longestRest)
	}
	// Half of it at random, so that instances do not try at the same time.
	next.until = mono.Now() + int64(next.pause/2+rand.N(next.pause/2))
	if len(r.rests) >= maxRests {
		r.forgetLocked()
	}
	r.rests[key] = next
}

// forgetLocked makes room for one.
func (r *refreshes) forgetLocked() {
	now := mono.Now()
	for key, rest := range r.rests {
		if now >= rest.until {
			delete(r.rests, key)
		}
	}
	for key := range r.rests {
		if len(r.rests) < maxRests {
			return
		}
		delete(r.rests, key)
	}
}
