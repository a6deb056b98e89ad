package cluster

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/pubsub"
)

// ShardChannels returns the sharded channels that somebody listens to, and whose names match the pattern, on any master. It returns
// an error if no master answers.
func (c *Client) ShardChannels(ctx context.Context, pattern string) ([]string, error) {
	var mu sync.Mutex
	var all []string
	var failure error
	answered := false
	err := c.router.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		channels, err := node.PubSubShardChannels(ctx, pattern).Result()
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			failure = pubsub.Explain(err)
			return nil // an error would end the others' calls
		}
		answered = true
		all = append(all, channels...)
		return nil
	})
	if err == nil && !answered {
		err = failure
	}
	return all, err
}
