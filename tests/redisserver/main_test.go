package redisserver_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/leak"
	"github.com/tandemcache/tandem/tests/redisserver"
)

// holderEnv makes this test binary a program that holds a server until it is killed.
const holderEnv = "REDISSERVER_TEST_HOLDER"

func TestMain(m *testing.M) {
	if os.Getenv(holderEnv) == "1" {
		hold()
		return
	}
	leak.Main(m)
}

// hold starts a server, prints its address, and waits for the end of the standard input.
func hold() {
	srv, err := redisserver.Start(redisserver.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(srv.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// requireRefused waits until nothing listens at addr any more.
func requireRefused(t *testing.T, addr string) {
	t.Helper()
	require.Eventually(t, func() bool {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	}, 10*time.Second, 5*time.Millisecond, "something still listens at %s", addr)
}

// requireLogs waits until srv's output has text: what it has written may be on its way here while it answers already.
func requireLogs(t *testing.T, srv *redisserver.Server, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(srv.Output(), text) },
		10*time.Second, 5*time.Millisecond, "%s is not in the output", text)
}

// impatient returns a client that asks once and gives up after 200 ms.
func impatient(t *testing.T, addr string) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{
		Addr: addr, MaxRetries: -1, DialerRetries: 1, ReadTimeout: 200 * time.Millisecond,
	})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func ping(t *testing.T, srv *redisserver.Server) error {
	t.Helper()
	return impatient(t, srv.Addr()).Ping(context.WithoutCancel(t.Context())).Err()
}
