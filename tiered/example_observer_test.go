package tiered_test

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/tiered"
)

// loadLog prints what has been loaded.
type loadLog struct{ tiered.NopObserver }

func (loadLog) LoadEnded(_ context.Context, e tiered.LoadEnd) {
	fmt.Println("loaded", e.Key, "for", 1+e.Waiters, "Get:", e.Err)
}

func ExampleObserver() {
	ctx := context.Background()
	rdb := redis.NewClient(&redis.Options{Addr: tiered.ExampleRedis()})
	defer rdb.Close()
	users, err := tiered.New(rdb, "observed", tiered.Options[string]{
		Observer: loadLog{},
		Load:     func(_ context.Context, id string) (string, error) { return "user " + id, nil },
		Logger:   slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer users.Close()
	fmt.Println(users.Get(ctx, "42"))
	// Output:
	// loaded 42 for 1 Get: <nil>
	// user 42 <nil>
}
