// Package script runs Lua scripts on Redis so that each is executed at most once a call.
package script

import (
	"context"
	"crypto/sha1" //nolint:gosec // G505: Redis names scripts by their SHA-1
	"encoding/hex"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// Script is a Lua script. It may be used concurrently.
type Script struct{ source, hash string }

// New returns the script with this source.
func New(source string) Script {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // G401: see the import
	return Script{source: source, hash: hex.EncodeToString(sum[:])}
}

// Sharded returns s with every PUBLISH made a SPUBLISH: in a cluster that reaches those who have subscribed at the node of the
// channel's slot, in the order in which that node publishes, and no others. PUBSUB NUMSUB becomes SHARDNUMSUB, which counts those.
func (s Script) Sharded() Script {
	return New(strings.NewReplacer("'PUBLISH'", "'SPUBLISH'", "'NUMSUB'", "'SHARDNUMSUB'").Replace(s.source))
}

// Run executes s by its hash, and by its source where the server does not know it yet (a new or restarted one; a server
// that answers NOSCRIPT has run nothing).
//
// The client is told not to retry. go-redis sends a command again when the reply was lost, and a script that has run
// already would run twice, with another instance's change in between: an old value or a deleted lease would come back.
func (s Script) Run(ctx context.Context, c redis.UniversalClient, keys []string, args ...any) *redis.Cmd {
	var sent atomic.Uint64
	return s.RunCounted(ctx, &sent, c, keys, args...)
}

// RunCounted is Run, and adds the number of commands that it sends to sent.
func (s Script) RunCounted(ctx context.Context, sent *atomic.Uint64, c redis.UniversalClient, keys []string, args ...any) *redis.Cmd {
	sent.Add(1)
	cmd := send(ctx, c, "evalsha", s.hash, keys, args)
	if err := cmd.Err(); err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") {
		sent.Add(1)
		cmd = send(ctx, c, "eval", s.source, keys, args)
	}
	return cmd
}

func send(ctx context.Context, c redis.UniversalClient, name, script string, keys []string, args []any) *redis.Cmd {
	cmd := command(ctx, name, script, keys, args)
	// The error is in the command as well.
	_ = c.Process(ctx, onceCmd{cmd})
	return cmd
}

func command(ctx context.Context, name, script string, keys []string, args []any) *redis.Cmd {
	all := make([]any, 0, 3+len(keys)+len(args))
	all = append(all, name, script, len(keys))
	for _, key := range keys {
		all = append(all, key)
	}
	all = append(all, args...)
	cmd := redis.NewCmd(ctx, all...)
	if len(keys) > 0 {
		cmd.SetFirstKeyPos(3)
	}
	return cmd
}

type onceCmd struct{ *redis.Cmd }

// NoRetry is how go-redis is told not to send a command twice.
func (onceCmd) NoRetry() bool { return true }
