package tiered_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/tiered"
)

// Every user of a team that has changed is invalidated with one call, however many there are and wherever they are cached.
func ExampleCache_InvalidateTags() {
	type user struct{ Name, Team string }
	var mu sync.Mutex
	db := map[string]user{"1": {"ada", "red"}, "2": {"bob", "red"}, "3": {"cid", "green"}}

	ctx := context.Background()
	rdb := redis.NewClient(&redis.Options{Addr: tiered.ExampleRedis()})
	defer rdb.Close()
	users, err := tiered.New(rdb, "members", tiered.Options[user]{
		Load: func(_ context.Context, id string) (user, error) {
			mu.Lock()
			defer mu.Unlock()
			return db[id], nil
		},
		Tags:         func(_ string, u user) []string { return []string{"team:" + u.Team} },
		RedisTimeout: 2 * time.Second,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer users.Close()
	show := func() {
		got, err := users.GetMany(ctx, []string{"1", "2", "3"})
		names := make([]string, 0, len(got))
		for _, u := range got {
			names = append(names, u.Name)
		}
		slices.Sort(names)
		fmt.Println(names, err)
	}

	show()
	mu.Lock()
	for id, u := range db { // a commit that changes all of a team
		if u.Team == "red" {
			u.Name += "!"
			db[id] = u
		}
	}
	mu.Unlock()
	fmt.Println(users.InvalidateTags(ctx, "team:red"))
	show()
	// Output:
	// [ada bob cid] <nil>
	// <nil>
	// [ada! bob! cid] <nil>
}
