package tiered_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/tiered"
)

func ExampleCache_GetMany() {
	ctx := context.Background()
	rdb := redis.NewClient(&redis.Options{Addr: tiered.ExampleRedis()})
	defer rdb.Close()
	table := map[string]string{"1": "Ada", "2": "Grace"}
	names, err := tiered.New(rdb, "names", tiered.Options[string]{
		// One query, such as SELECT id, name FROM users WHERE id = ANY($1).
		LoadMany: func(_ context.Context, ids []string) (map[string]string, error) {
			out := make(map[string]string, len(ids))
			for _, id := range ids {
				if name, ok := table[id]; ok {
					out[id] = name
				}
			}
			return out, nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer names.Close()

	got, err := names.GetMany(ctx, []string{"1", "2", "3", ""})
	fmt.Println(got)
	if failed, ok := errors.AsType[*tiered.KeysError](err); ok {
		fmt.Printf("%q %v\n", failed.Keys, errors.Is(failed, tiered.ErrInvalidKey))
	}
	// Output:
	// map[1:Ada 2:Grace]
	// [""] true
}
