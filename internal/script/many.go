package script

import (
	"context"
	"slices"
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
// Where the server does not know s, a second round trip brings the source with the first call that was answered so. There is a
// third one only if that call was refused before s was known, as a node of a cluster refuses what is not its own.
func (s Script) RunMany(ctx context.Context, sent *atomic.Uint64, c redis.UniversalClient, calls []Call) []*redis.Cmd {
	return runMany(ctx, sent, c, func(int) Script { return s }, calls)
}

// RunEach is [Script.RunMany] for a script each. Those that the server does not know are executed after those that it does.
func RunEach(ctx context.Context, sent *atomic.Uint64, c redis.UniversalClient, scripts []Script, calls []Call) []*redis.Cmd {
	return runMany(ctx, sent, c, func(i int) Script { return scripts[i] }, calls)
}

func runMany(ctx context.Context, sent *atomic.Uint64, c redis.UniversalClient, of func(i int) Script, calls []Call) []*redis.Cmd {
	cmds := make([]*redis.Cmd, len(calls))
	all := make([]int, len(calls))
	for i := range all {
		all[i] = i
	}
	sendMany(ctx, sent, c, of, calls, cmds, all, false)
	for unknown := unknownOf(cmds); len(unknown) > 0; unknown = unknownOf(cmds) { // each has fewer of them
		sendMany(ctx, sent, c, of, calls, cmds, unknown, true)
	}
	return cmds
}

// unknownOf returns the numbers of those whose script the server does not know.
func unknownOf(cmds []*redis.Cmd) []int {
	var unknown []int
	for i, cmd := range cmds {
		if err := cmd.Err(); err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") {
			unknown = append(unknown, i)
		}
	}
	return unknown
}

// sendMany sends the calls of these numbers as one pipeline, and stores their commands. With source the first of each script has it.
func sendMany(
	ctx context.Context, sent *atomic.Uint64, c redis.UniversalClient,
	of func(i int) Script, calls []Call, cmds []*redis.Cmd, numbers []int, source bool,
) {
	if len(numbers) == 0 {
		return
	}
	pipe := c.Pipeline()
	var known []string // the hashes of those whose source is sent
	for _, i := range numbers {
		s := of(i)
		name, script := "evalsha", s.hash
		if source && !slices.Contains(known, s.hash) {
			name, script, known = "eval", s.source, append(known, s.hash)
		}
		cmds[i] = command(ctx, name, script, calls[i].Keys, calls[i].Args)
		// A pipeline with one such command is not sent again as a whole.
		_ = pipe.Process(ctx, onceCmd{cmds[i]})
	}
	sent.Add(uint64(len(numbers)))
	_, _ = pipe.Exec(ctx) // each command has its own error
}
