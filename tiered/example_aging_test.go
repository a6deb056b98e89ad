package tiered_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/tiered"
)

// A price is refreshed while it is read, and the last one stands in for an hour where the shop does not answer.
func ExampleGetOptions() {
	ctx := context.Background()
	rdb := redis.NewClient(&redis.Options{Addr: tiered.ExampleRedis()})
	defer rdb.Close()
	var down atomic.Bool // the shop
	prices, err := tiered.New(rdb, "prices", tiered.Options[int]{
		Load: func(context.Context, string) (int, error) {
			if down.Load() {
				return 0, errors.New("the shop does not answer")
			}
			return 42, nil
		},
		MaxStaleness: 500 * time.Millisecond,
		RefreshAfter: 500 * time.Millisecond,
		TTL:          time.Second,
		StaleIfError: time.Hour,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer prices.Close()

	var price int
	for stale := false; !stale; time.Sleep(10 * time.Millisecond) {
		price, err = prices.GetWith(ctx, "pear", tiered.GetOptions[int]{Stale: &stale})
		down.Store(prices.Stats().Fills > 0) // as soon as Redis has the price
	}
	fmt.Println(price, err)
	// Output: 42 <nil>
}
