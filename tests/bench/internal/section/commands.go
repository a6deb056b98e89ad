package section

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// commandCounter asks a Redis how many commands it has run, those of scripts included.
type commandCounter struct{ rdb *redis.Client }

func countCommands(addr string) commandCounter {
	return commandCounter{rdb: redis.NewClient(&redis.Options{Addr: addr})}
}

// total returns the calls of all commands but INFO since the server started.
func (c commandCounter) total(ctx context.Context) (uint64, error) {
	text, err := c.rdb.Info(ctx, "commandstats").Result()
	if err != nil {
		return 0, fmt.Errorf("counting commands: %w", err)
	}
	return sumCalls(text)
}

// sumCalls adds up the lines of INFO commandstats, as "cmdstat_get:calls=3,usec=4,...".
func sumCalls(text string) (uint64, error) {
	var sum uint64
	for line := range strings.Lines(text) {
		name, stats, ok := strings.Cut(strings.TrimSpace(line), ":calls=")
		if !ok || name == "cmdstat_info" {
			continue
		}
		calls, _, _ := strings.Cut(stats, ",")
		n, err := strconv.ParseUint(calls, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("INFO commandstats: %q: %w", line, err)
		}
		sum += n
	}
	return sum, nil
}

func (c commandCounter) Close() error { return c.rdb.Close() }
