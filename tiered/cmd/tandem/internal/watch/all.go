package watch

import (
	"context"
	"sync"
	"time"

	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/cluster"
)

// runAll follows every cache that has running instances. Redis has no pattern for sharded channels, but tells which of them somebody
// listens to, and running instances do.
func runAll(ctx context.Context, c *cluster.Client, tell func(Event)) error {
	var mu sync.Mutex
	one := func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		tell(e)
	}
	var followers sync.WaitGroup
	defer followers.Wait()
	followed := make(map[string]bool)
	for first := true; ; first = false {
		names, err := runningCaches(ctx, c)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && first:
			return err
		case first:
			one(Event{Kind: Looking, At: time.Now()})
		}
		for _, name := range names {
			if followed[name] {
				continue
			}
			// Its key may not be there yet, or the name be somebody's invention.
			if keys, err := c.Keys(ctx, name); err == nil {
				followed[name] = true
				followers.Go(func() { newFollower(c, name, keys, one).run(ctx) })
			}
		}
		select {
		case <-time.After(surveyEvery):
		case <-ctx.Done():
			return nil
		}
	}
}

// runningCaches asks all nodes. One that does not answer is not missed: caches have partitions on the others, and who follows a cache
// tells what it cannot hear. It returns an error if none answers.
func runningCaches(ctx context.Context, c *cluster.Client) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	channels, err := c.ShardChannels(ctx, "tandem:*")
	seen := make(map[string]bool)
	var names []string
	for _, channel := range channels {
		if name := shardedCache(channel); name != "" && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names, err
}
