// Profiles keeps users' names and permissions, and is asked by every other service, at every request: may this user do that?
// Any number of its processes run on one database and one Redis. What is revoked in one is gone in all.
//
//	profiles -db FILE -redis ADDR [-addr ADDR] [-cache=false]
//
//	GET    /users/{id}                       the profile
//	PUT    /users/{id}                       creates or renames
//	GET    /users/{id}/permissions/{name}    204 if the user has it, 403 if not
//	PUT    /users/{id}/permissions/{name}    grants
//	DELETE /users/{id}/permissions/{name}    revokes
//	GET    /stats                            what the cache did, and how often the database was read
//
// A change is answered with 204 once no process can serve the old profile for longer than MaxStaleness, and with 202 if
// Redis could not be told yet: the change is made, and becomes known as soon as Redis is back.
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
	flags := flag.NewFlagSet("profiles", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:0", "where to listen")
	file := flags.String("db", "profiles.db", "SQLite `file`, created if it does not exist")
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
	s := &service{store: db}
	if *cached {
		rdb := redis.NewClient(&redis.Options{Addr: *redisAddr})
		defer rdb.Close()
		s.users, err = tiered.New(rdb, "users", tiered.Options[User]{
			Load:         db.user,
			MaxStaleness: maxStaleness,
		})
		if err != nil {
			return err
		}
		defer func() {
			if err := s.users.Close(); err != nil {
				log.Print(err) // how many changes the other processes may not know of
			}
		}()
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
