//go:build linux

package scale

import (
	"context"
	"flag"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/leak"
	"github.com/tandemcache/tandem/tests/scale/internal/fleet"
)

var (
	instances   = flag.String("instances", "5,10,30", "numbers of instances to measure, ascending")
	processes   = flag.Int("processes", 3, "how many processes the instances are spread over")
	window      = flag.Duration("window", 3*time.Second, "how long the instances are watched at rest, and invalidated; CPU is judged from 5s")
	invalidates = flag.Int("invalidates", 200, "Invalidates a second into the instances; 0 is one after the other, as fast as it goes")
	staleness   = flag.Duration("staleness", 6*time.Second, "MaxStaleness; longer than the default of a cache, for machines with too much to do")

	clusters = flag.String("clusters", "5/16/3,10/64/3", "instances/partitions/masters to measure on a cluster, and to make lines of")
	heldOut  = flag.String("held", "", "likewise, to compare with what the lines say of them")

	spreadKeys = flag.Int("spread", 30_000, "how many keys to store in a cluster of six masters")
	unitsFile  = flag.String("units", "", "JSON file for what one more of each costs, which the program sizing reads")

	stormFor  = flag.Duration("storm", time.Second, "how long a storm lasts")
	stormRate = flag.Int("rate", 5_000, "keys a second of the paced storm")
	stormKeys = flag.Int("keys", 100_000, "different keys of a storm")
	calmFor   = flag.Duration("calm", 200*time.Millisecond, "how long one round of L1 hits lasts, with a storm and without")
	rounds    = flag.Int("rounds", 2, "rounds of L1 hits, with a storm and without in turn")
	slower    = flag.Float64("slower", 0, "by how much L1 hits of other keys may be slower in a storm, in CPU time; 0 judges nothing")

	soakFor = flag.Duration("soak", 6*time.Second, "how long the soak lasts; steadiness is judged from 1m")
)

func TestMain(m *testing.M) {
	redis.SetLogger(silent{}) // it speaks of connections that end with a test
	fleet.Main()              // does not return in a process of instances
	leak.Main(m)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func numbers(t *testing.T, list string) []int {
	t.Helper()
	var out []int
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		require.Positive(t, n)
		out = append(out, n)
	}
	return out
}
