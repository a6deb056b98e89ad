//go:build linux

package chaos

import (
	"context"
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/tests/chaos/internal/worker"
	"github.com/tandemcache/tandem/tests/leak"
)

var (
	duration  = flag.Duration("duration", 0, "how long random faults go on; 0 is 10s, and 4s under the race detector")
	seed      = flag.Uint64("seed", 0, "what all chance comes from; 0 is a random one, which is printed")
	only      = flag.String("faults", "", "the faults to choose from, by name, separated by commas; empty is all of them")
	runs      = flag.Int("runs", 0, "run every fault alone, this many times, for both designs, in place of random ones")
	table     = flag.Bool("table", false, "with -v, print the table of README.md; implies -runs 1 if there is no -runs")
	single    = flag.Bool("single", false, "random faults on one server only, not again with Sentinels")
	staleness = flag.Duration("staleness", 2*time.Second, "MaxStaleness, which C3 is judged by")
)

func TestMain(m *testing.M) {
	redis.SetLogger(silent{}) // it says of each failed dial what the faults are about
	worker.Main()             // does not return in a process that is an instance
	leak.Main(m)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// theSeed returns -seed, or one of its own, and has the test print it.
func theSeed(t *testing.T) uint64 {
	t.Helper()
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("repeat the choices of this run with -seed %d", s)
	return s
}
