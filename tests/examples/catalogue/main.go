// Catalogue is a product catalogue: HTTP over SQLite, with two caches that an update invalidates after its commit.
//
//	catalogue -db FILE -redis ADDR [-addr ADDR] [-cache=false]
//
//	GET    /products/{id}        one product, with its rating over all reviews
//	PUT    /products/{id}        creates or changes it
//	DELETE /products/{id}
//	GET    /categories/{name}    a category's products
//	GET    /stats                what the cache did, and how often the database was read
//
// Any number of them may run on one database file and one Redis.
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
	flags := flag.NewFlagSet("catalogue", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:0", "where to listen")
	file := flags.String("db", "catalogue.db", "SQLite `file`, created if it does not exist")
	redisAddr := flags.String("redis", "localhost:6379", "where Redis is")
	cached := flags.Bool("cache", true, "use the cache; without it every read goes to the database")
	if err := flags.Parse(args); err != nil {
		return err
	}

	db, err := openStore(ctx, *file)
	if err != nil {
		return err
	}
	defer db.Close()
	c := &catalogue{store: db}
	if *cached {
		rdb := redis.NewClient(&redis.Options{Addr: *redisAddr})
		defer rdb.Close()
		if err := c.useCache(rdb); err != nil {
			return err
		}
		defer func() {
			if err := c.Close(); err != nil {
				log.Print(err) // how many invalidations Redis has not taken
			}
		}()
	}
	return serve(ctx, *addr, c.handler())
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
