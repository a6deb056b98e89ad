// Rates serves exchange rates of an HTTP API that allows so many calls in a window, and counts them for all processes of a
// customer together. The processes share the answers through the cache, and never go over the limit.
//
//	rates -api URL -redis ADDR [-limit 10 -window 1s -instances 3] [-addr ADDR] [-cache=false]
//
//	GET /rates/{currency}    what the API says: {"currency":"EUR","rate":1.08}
//	GET /stats               what the cache did, and how many calls were made
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/tiered"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("rates", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:0", "where to listen")
	api := flags.String("api", "", "`URL` of the API")
	limit := flags.Int("limit", 10, "calls that the API allows all instances in a window")
	window := flags.Duration("window", time.Second, "that window")
	instances := flags.Int("instances", 3, "how many instances there are at most, a rolling deploy included")
	ttl := flags.Duration("ttl", time.Minute, "how old a rate may be")
	patience := flags.Duration("patience", 5*time.Second, "how long a request waits for a call")
	redisAddr := flags.String("redis", "localhost:6379", "where Redis is")
	cached := flags.Bool("cache", true, "use the cache; without it every request is a call")
	if err := flags.Parse(args); err != nil {
		return err
	}
	share := *limit / *instances
	if share < 1 {
		return fmt.Errorf("a limit of %d leaves nothing for each of %d instances", *limit, *instances)
	}

	s := &service{
		client:   &client{url: *api, http: &http.Client{}, budget: newBudget(share, *window)},
		patience: *patience,
	}
	if *cached {
		rdb := redis.NewClient(&redis.Options{Addr: *redisAddr})
		defer rdb.Close()
		var err error
		s.rates, err = tiered.New(rdb, "rates", tiered.Options[Rate]{
			Load:        s.client.rate,
			TTL:         *ttl,
			NotFoundTTL: *ttl,      // to learn that there is no such currency costs a call, too
			LoadTimeout: *patience, // with the time that the load waits for its turn
			LeaseWait:   *patience, // an instance that waits for its turn is not overtaken by a call of another
			MaxLoads:    share,     // while Redis is away: more could only wait for their turn
			// Nothing is ever invalidated here, so without Redis L1 may keep for longer what it has.
			MaxStaleness: *ttl / 6,
		})
		if err != nil {
			return err
		}
		defer s.rates.Close()
	}
	return serve(ctx, *addr, s.handler())
}

// serve answers requests until ctx ends.
func serve(ctx context.Context, addr string, handler http.Handler) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf("listening on http://%s\n", listener.Addr())
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return server.Shutdown(grace)
}
