package tiered_test

import (
	"context"
	"fmt"

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
