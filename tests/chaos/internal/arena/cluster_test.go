//go:build linux

package arena

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/leak"
	"github.com/tandemcache/tandem/tests/redisserver"
)

func TestMain(m *testing.M) { leak.Main(m) }

func TestPartEndsReplicationAndWholeMendsIt(t *testing.T) {
	redisserver.Need(t)
	c, err := openCluster()
	require.NoError(t, err)
	defer func() { require.NoError(t, c.close()) }()
	master, err := c.Master(7365) // of {c}
	require.NoError(t, err)
	write := func() error {
		return c.With(master, func(ctx context.Context, rdb *redis.Client) error {
			return rdb.Set(ctx, "{c}", "v", 0).Err()
		})
	}
	written := func() {
		t.Helper()
		require.Eventually(t, func() bool { return write() == nil }, patience, 20*time.Millisecond)
	}
	written()

	c.Part(c.Replicas(master)...)

	require.Eventually(t, func() bool { return redis.HasErrorPrefix(write(), "NOREPLICAS") }, patience, 20*time.Millisecond)
	require.NoError(t, c.Alone(master))
	written()
	require.NoError(t, c.Whole())
	written()
}
