package section

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// commandCounter asks servers how many commands they have run, those of scripts included.
type commandCounter []*redis.Client

func countCommands(addrs ...string) commandCounter {
	c := make(commandCounter, len(addrs))
	for i, addr := range addrs {
		c[i] = redis.NewClient(&redis.Options{Addr: addr})
	}
	return c
}

// total returns the calls of all commands but INFO since the servers started.
func (c commandCounter) total(ctx context.Context) (uint64, error) {
	var sum uint64
	for _, rdb := range c {
		text, err := rdb.Info(ctx, "commandstats").Result()
		if err != nil {
			return 0, fmt.Errorf("counting commands: %w", err)
		}
		n, err := sumCalls(text)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
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

func (c commandCounter) Close() error {
	var errs []error
	for _, rdb := range c {
		errs = append(errs, rdb.Close())
	}
	return errors.Join(errs...)
}
