//go:build linux

package chaos

import (
	"cmp"
	"testing"
	"time"

	"github.com/tandemcache/tandem/tests/chaos/internal/arena"
	"github.com/tandemcache/tandem/tests/redisserver"
)

// TestClusterUnderFaults is the harness on a Redis Cluster: with random faults for -duration, or with -runs of each fault alone
// and as many of random ones.
func TestClusterUnderFaults(t *testing.T) {
	redisserver.Need(t)
	seed := theSeed(t)
	faults := fitting(chosen(t), arena.WithCluster)
	if len(faults) == 0 {
		t.Skip("none of -faults can be done to a cluster")
	}
	d := randomFor()
	var all rows
	if *runs > 0 || *table {
		everyFault(t, &all, faults, seed)
		d = cmp.Or(*duration, 30*time.Second)
	}
	repeated(t, &all, "mixed, cluster", seed, func(t *testing.T, name string, seed uint64) outcome {
		return runMixed(t, name, arena.WithCluster, faults, seed, d)
	})
	all.report(t)
}
