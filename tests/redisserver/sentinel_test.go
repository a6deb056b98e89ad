package redisserver_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/redisserver"
)

func TestStart_aSentinelAndAReplica(t *testing.T) {
	t.Parallel()
	master := redisserver.Run(t, redisserver.Options{})
	host, port, err := net.SplitHostPort(master.Addr())
	require.NoError(t, err)
	replica := redisserver.Run(t, redisserver.Options{Args: []string{"--replicaof", host + " " + port}})
	sentinel := redisserver.Run(t, redisserver.Options{
		Args: []string{"--sentinel"}, Config: fmt.Sprintf("sentinel monitor it %s %s 1\n", host, port),
	})

	ask := redis.NewSentinelClient(&redis.Options{Addr: sentinel.Addr()})
	t.Cleanup(func() { _ = ask.Close() })
	require.Eventually(t, func() bool {
		replicas, err := ask.Replicas(t.Context(), "it").Result()
		return err == nil && len(replicas) == 1 && net.JoinHostPort(replicas[0]["ip"], replicas[0]["port"]) == replica.Addr()
	}, 30*time.Second, 10*time.Millisecond)
	require.NoError(t, sentinel.Restart(), "with the file as it has rewritten it")
}
