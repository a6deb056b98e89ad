package script

import (
	"context"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// Call is what one execution of a script is given.
type Call struct {
	Keys []string
	Args []any
}

// RunMany executes s for each call, in one round trip, and adds the number of commands that it sends to sent. The results are
// in the order of the calls. They are executed in this order too, and each at most once; others' commands may come in between.
//
// Where the server does not know s, a second round trip brings the source with the first call that was answered so.
func (s Script) RunMany(ctx context.Context, sent *atomic.Uint64, c redis.UniversalClient, calls []Call) []*redis.Cmd {
	cmds := make([]*redis.Cmd, len(calls))
	all := make([]int, len(calls))
	for i := range all {
		all[i] = i
	}
	s.sendMany(ctx, sent, c, calls, cmds, all, false)
	var unknown []int
	for i, cmd := range cmds {
		if err := cmd.Err(); err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") {
			unknown = append(unknown, i)
		}
	}
	s.sendMany(ctx, sent, c, calls, cmds, unknown, true)
	return cmds
}

// sendMany sends the calls of these numbers as one pipeline, and stores their commands.
func (s Script) sendMany(ctx context.Context, sent *atomic.Uint64, c redis.UniversalClient, calls []Call, cmds []*redis.Cmd, numbers []int, source bool) {
	if len(numbers) == 0 {
		return
	}
	pipe := c.Pipeline()
	for _, i := range numbers {
		name, script := "evalsha", s.hash
		if source {
			name, script, source = "eval", s.source, false
		}
		cmds[i] = command(ctx, name, script, calls[i].Keys, calls[i].Args)
		// A pipeline with one such command is not sent again as a whole.
		_ = pipe.Process(ctx, onceCmd{cmds[i]})
	}
	sent.Add(uint64(len(numbers)))
	_, _ = pipe.Exec(ctx) // each command has its own error
}
