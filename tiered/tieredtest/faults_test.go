package tieredtest

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered"
)

// An instance hears its heartbeat, and is answered later: only then it knows the time.
func TestFastForwardWaitsForTheAnswer(t *testing.T) {
	t.Parallel()
	var source Source[int]
	source.Set("k", 1)
	fleet := NewFleet(t, 1, tiered.Options[int]{
		Load: source.Load, TTL: time.Hour, StaleIfError: 24 * time.Hour, // which keeps it in Redis, so that the instance judges
		RedisTimeout: 5 * time.Second, MaxStaleness: 10 * time.Second,
	})
	fleet.net.server.SetPreHook(func(c *server.Peer, cmd string, args ...string) bool {
		if cmd == "EVALSHA" && len(args) > 5 && args[0] == beatHash && args[1] == "2" {
			argv := args[4:]
			fleet.net.redis.Publish(argv[beatInbox], argv[beatMessage])
			time.Sleep(100 * time.Millisecond)
		}
		return fleet.net.steady(c, cmd, args...)
	})
	get := func() {
		v, err := fleet.Cache(0).Get(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, 1, v)
	}
	get()
	fleet.FastForward(2 * time.Hour)
	get()
	require.Equal(t, 2, source.Calls())
}
