package tiered_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/tiered"
)

func ExampleCache_GetWith() {
	ctx := context.Background()
	rdb := redis.NewClient(&redis.Options{Addr: tiered.ExampleRedis()})
	defer rdb.Close()
	pages, err := tiered.New(rdb, "pages", tiered.Options[string]{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pages.Close()

	page, err := pages.GetWith(ctx, "/about", tiered.GetOptions[string]{
		Load: func(_ context.Context, path string) (string, error) { return "<h1>" + path + "</h1>", nil },
	})
	fmt.Println(page, err)
	// Output: <h1>/about</h1> <nil>
}

// A permission that is revoked must not be seen once more, on any instance.
func ExampleCache_InvalidateAndWait() {
	ctx := context.Background()
	rdb := redis.NewClient(&redis.Options{Addr: tiered.ExampleRedis()})
	defer rdb.Close()
	var allowed atomic.Bool // the database
	allowed.Store(true)
	permissions, err := tiered.New(rdb, "permissions", tiered.Options[bool]{
		Load:         func(context.Context, string) (bool, error) { return allowed.Load(), nil },
		RedisTimeout: 2 * time.Second, // rather wait than be unsure
		Acknowledge:  true,            // on every instance
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer permissions.Close()
	fmt.Println(permissions.Get(ctx, "alice"))

	allowed.Store(false) // commit
	if err := permissions.InvalidateAndWait(ctx, "alice"); err != nil {
		fmt.Println("somebody may still take alice for allowed:", err)
		return
	}
	fmt.Println(permissions.Get(ctx, "alice")) // here and everywhere
	// Output:
	// true <nil>
	// false <nil>
}

// Many caches of one process share one subscription.
func ExampleNewBus() {
	rdb := redis.NewClient(&redis.Options{Addr: tiered.ExampleRedis()})
	defer rdb.Close()
	bus, err := tiered.NewBus(rdb, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer bus.Close()
	for _, name := range []string{"users", "orders"} {
		c, err := tiered.New(rdb, name, tiered.Options[string]{Bus: bus})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(c.Name(), c.Ready(context.Background()), c.Close())
	}
	// Output:
	// users <nil> <nil>
	// orders <nil> <nil>
}
