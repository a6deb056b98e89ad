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
		const settledVersion = "0123456789abcdef:+1234567"
		for name, tc := range map[string]struct {
			stored string
			server string
			steady bool
			// registers says that there is a registry, and what is in it and should be.
			registers     bool
			found, expect string
		}{
			"a version":                   {stored: settledVersion, steady: true},
			"one from before time":        {stored: "0123456789abcdef:+", steady: true},
			"one that was taken over":     {stored: "0123456789abcdef:=1234567"},
			"one of a server":             {stored: "0123456789abcdef:abc+1234567"},
			"one, when a server is known": {stored: settledVersion, server: "abc"},
			"none":                        {},
			"nonsense":                    {stored: "nonsense"},
			"registered":                  {stored: settledVersion, steady: true, registers: true, found: "w", expect: "w"},
			"registered otherwise":        {stored: settledVersion, registers: true, found: "v", expect: "w"},
			"not yet registered":          {stored: settledVersion, registers: true},
			"marked":                      {stored: settledVersion, registers: true, found: "-1234567890123", expect: "w"},
			"registered, and no version":  {registers: true, found: "w", expect: "w"},
		} {
			answers := map[bool]any{}
			for _, byHash := range []bool{true, false} {
				if direct.Del("version"); tc.stored != "" {
					require.NoError(t, direct.Set("version", tc.stored))
				}
				direct.Del("registry")
				if tc.found != "" {
					direct.HSet("registry", "me", tc.found)
				}
				keys := []any{"2", "probe", "version"}
				args := []any{"inbox", "message", "fedcba9876543210", "60000", tc.server, "0", "run", "0", "lost", "1", "channel"}
				if tc.registers {
					keys = []any{"3", "probe", "version", "registry"}
					args = append(args, "me", "new", tc.expect)
				}
				args = append(keys, args...)
				var cmd *redis.Cmd
				if byHash {
					cmd = rdb.Do(t.Context(), append([]any{"EVALSHA", beatHash}, args...)...)
					require.Equal(t, tc.steady, answered.Load(), name)
				} else {
					cmd = rdb.Do(t.Context(), append([]any{"EVAL", string(source)}, args...)...)
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
				answers[byHash] = []any{reply, stored, direct.TTL("version"), strings.Join(messages, ", "), direct.HGet("registry", "me"), direct.TTL("registry")}
			}
			require.Equal(t, answers[false], answers[true], name)
		}
	})
}
