// Package section holds the comparisons, one a file. Each prepares its competitors on one Redis, lets them take turns for some
// rounds, and returns tables.
package section

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/tests/bench/internal/report"
)

// Config is what every section is run with.
type Config struct {
	Addr   string        // a Redis that nothing else uses; sections flush it
	Rounds int           // how often each competitor has its turn
	Time   time.Duration // how long one turn takes
	Traces string        // a directory; empty: a synthetic trace
	// Log says what is being done. It may be nil.
	Log func(format string, args ...any)
}

func (c Config) logf(format string, args ...any) {
	if c.Log != nil {
		c.Log(format, args...)
	}
}

// Result is what a section found.
type Result struct {
	Tables []report.Table
	Panels []report.Panel // what it adds to the picture
}

// Section is one comparison.
type Section struct {
	Name string // for the command line
	Run  func(ctx context.Context, cfg Config) (Result, error)
}

// All returns the sections in the order in which they are run.
func All() []Section {
	return []Section{
		{Name: "l1", Run: LocalHit},
		{Name: "l2", Run: RemoteHit},
		{Name: "miss", Run: Miss},
		{Name: "stampede", Run: Stampede},
		{Name: "invalidation", Run: Invalidation},
		{Name: "cluster", Run: Cluster},
		{Name: "ratio", Run: HitRatio},
	}
}

// keyCount is how many users there are, where it is not the point that a key is new.
const keyCount = 10_000

// Goroutines names a number of goroutines.
func Goroutines(n int) string {
	if n == 1 {
		return "one goroutine"
	}
	return fmt.Sprintf("%d goroutines", n)
}

// flush empties Redis for the next section. Nobody is connected who would mind.
func flush(ctx context.Context, addr string) error {
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	defer rdb.Close()
	if err := rdb.FlushAll(ctx).Err(); err != nil {
		return fmt.Errorf("flushing Redis: %w", err)
	}
	return nil
}
