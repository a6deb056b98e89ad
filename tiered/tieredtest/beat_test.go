package tieredtest

import (
	"crypto/sha1"
	"encoding/hex"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered"
)

// What steady answers is what the script answers, and does what it does.
func TestSteadyAnswersAsTheScriptDoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source, err := os.ReadFile("../../pubsub/scripts/beat.lua")
		require.NoError(t, err)
		hash := sha1.Sum(source)
		require.Equal(t, beatHash, hex.EncodeToString(hash[:]),
			"the heartbeat's script has changed: see whether steady still answers what it would, and change beatHash")

		fleet := NewFleet(t, 1, tiered.Options[int]{})
		require.NoError(t, fleet.Cache(0).Close()) // no heartbeats but ours
		rdb, direct := fleet.Client(0), fleet.net.redis
		var answered atomic.Bool
		fleet.net.server.SetPreHook(func(c *server.Peer, cmd string, args ...string) bool {
			yes := fleet.net.steady(c, cmd, args...)
			if cmd == "EVALSHA" {
				answered.Store(yes)
			}
			return yes
		})
		heard := rdb.Subscribe(t.Context(), "inbox", "channel")
		defer heard.Close()
		for range 2 {
			_, err := heard.Receive(t.Context())
			require.NoError(t, err)
		}
		for name, tc := range map[string]struct {
			stored string
			server string
			steady bool
		}{
			"a version":                   {"0123456789abcdef:+1234567", "", true},
			"one from before time":        {"0123456789abcdef:+", "", true},
			"one that was taken over":     {"0123456789abcdef:=1234567", "", false},
			"one of a server":             {"0123456789abcdef:abc+1234567", "", false},
			"one, when a server is known": {"0123456789abcdef:+1234567", "abc", false},
			"none":                        {"", "", false},
			"nonsense":                    {"nonsense", "", false},
		} {
			answers := map[bool]any{}
			for _, byHash := range []bool{true, false} {
				if direct.Del("version"); tc.stored != "" {
					require.NoError(t, direct.Set("version", tc.stored))
				}
				args := []any{
					"probe", "version", "inbox", "message", "fedcba9876543210", "60000", tc.server, "0", "run", "0", "lost", "channel",
				}
				var cmd *redis.Cmd
				if byHash {
					cmd = rdb.Do(t.Context(), append([]any{"EVALSHA", beatHash, "2"}, args...)...)
					require.Equal(t, tc.steady, answered.Load(), name)
				} else {
					cmd = rdb.Do(t.Context(), append([]any{"EVAL", string(source), "2"}, args...)...)
				}
				reply, err := cmd.Result()
				require.NoError(t, err, name)
				stored, err := direct.Get("version")
				require.NoError(t, err, name)
				var messages []string
				for done := false; !done; {
					m, err := heard.ReceiveMessage(t.Context())
					require.NoError(t, err)
					messages = append(messages, m.Channel+" "+m.Payload)
					done = m.Channel == "inbox"
				}
				answers[byHash] = []any{reply, stored, direct.TTL("version"), strings.Join(messages, ", ")}
			}
			require.Equal(t, answers[false], answers[true], name)
		}
	})
}
