package script_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/script"
)

func calls(n int) []script.Call {
	out := make([]script.Call, n)
	for i := range out {
		out[i] = script.Call{Keys: []string{fmt.Sprint("n", i)}, Args: []any{i}}
	}
	return out
}

// Each call is executed once on a server that knows the script, that does not, and that has just forgotten it; in one round
// trip or two.
func TestRunManyExecutesEachOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		t.Helper()
		rdb := client(t, redis.Options{Addr: addr, MaxRetries: 3})
		var trips pipelines
		rdb.AddHook(&trips)
		s := script.New(`return {redis.call('INCR', KEYS[1]), ARGV[1]}`)
		for i, want := range []int64{2, 1, 2} {
			if want == 2 {
				require.NoError(t, rdb.ScriptFlush(t.Context()).Err())
			}
			trips.n.Store(0)
			var sent atomic.Uint64
			cmds := s.RunMany(t.Context(), &sent, rdb, calls(5))
			require.Len(t, cmds, 5)
			for j, cmd := range cmds {
				got, err := cmd.Slice()
				require.NoError(t, err)
				require.Equal(t, []any{int64(i + 1), fmt.Sprint(j)}, got)
			}
			require.EqualValues(t, 5*want, sent.Load())
			require.Equal(t, want, trips.n.Load())
		}
		var sent atomic.Uint64
		require.Empty(t, s.RunMany(t.Context(), &sent, rdb, nil))
		require.Zero(t, sent.Load())
	})
}

func TestRunManyIsNotRetriedAfterALostReply(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		t.Helper()
		var net lossy
		rdb := client(t, redis.Options{Addr: addr, Dialer: net.Dial, MaxRetries: 3})
		judge := client(t, redis.Options{Addr: addr})
		require.NoError(t, judge.ScriptLoad(t.Context(), count).Err())
		net.arm("evalsha")
		var sent atomic.Uint64
		for _, cmd := range script.New(count).RunMany(t.Context(), &sent, rdb, calls(3)) {
			require.ErrorIs(t, cmd.Err(), io.EOF)
		}
		require.EqualValues(t, 1, net.lost.Load())
		require.Eventually(t, func() bool {
			return fmt.Sprint(judge.MGet(t.Context(), "n0", "n1", "n2").Val()) == "[1 1 1]"
		}, 10*time.Second, time.Millisecond, "executed exactly once")
	})
}

// One call's error is its own.
func TestRunManyKeepsErrorsApart(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		t.Helper()
		rdb := client(t, redis.Options{Addr: addr})
		require.NoError(t, rdb.RPush(t.Context(), "n1", "x").Err())
		var sent atomic.Uint64
		cmds := script.New(count).RunMany(t.Context(), &sent, rdb, calls(3))
		require.NoError(t, cmds[0].Err())
		require.ErrorContains(t, cmds[1].Err(), "WRONGTYPE")
		require.NoError(t, cmds[2].Err())
	})
}

// Scripts that differ go in one round trip as well, and those that are not known in a second one, with each source once.
func TestRunEach(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		t.Helper()
		rdb := client(t, redis.Options{Addr: addr, MaxRetries: 3})
		var trips pipelines
		rdb.AddHook(&trips)
		incr, decr := script.New(`return redis.call('INCR', KEYS[1])`), script.New(`return redis.call('DECR', KEYS[1])`)
		require.NoError(t, rdb.ScriptFlush(t.Context()).Err())
		require.NoError(t, rdb.ScriptLoad(t.Context(), `return redis.call('DECR', KEYS[1])`).Err())
		for i, want := range []int64{2, 1} {
			trips.n.Store(0)
			var sent atomic.Uint64
			cmds := script.RunEach(t.Context(), &sent, rdb, []script.Script{incr, decr, incr, decr}, calls(4))
			for j, cmd := range cmds {
				n, err := cmd.Int()
				require.NoError(t, err)
				require.Equal(t, (i+1)*(1-2*(j%2)), n)
			}
			require.EqualValues(t, 4+2*(want-1), sent.Load())
			require.Equal(t, want, trips.n.Load())
		}
	})
}

// A call that is refused before its script is known leaves the others without it.
func TestRunManyWhereTheFirstCallIsRefused(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		t.Helper()
		rdb := client(t, redis.Options{Addr: addr})
		rdb.AddHook(refusing{})
		require.NoError(t, rdb.ScriptFlush(t.Context()).Err())
		var sent atomic.Uint64
		cmds := script.New(count).RunMany(t.Context(), &sent, rdb, calls(4))
		require.ErrorContains(t, cmds[0].Err(), "MOVED")
		for _, cmd := range cmds[1:] {
			require.NoError(t, cmd.Err())
		}
	})
}

// refusing answers what is about n0 as a node does that does not have it.
type refusing struct{}

func (refusing) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (refusing) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (refusing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		var rest []redis.Cmder
		for _, cmd := range cmds {
			if cmd.Name() == "eval" && cmd.Args()[3] == "n0" {
				cmd.SetErr(moved{})
				continue
			}
			rest = append(rest, cmd)
		}
		return next(ctx, rest)
	}
}

type moved struct{}

func (moved) Error() string { return "MOVED 1 127.0.0.1:1" }
func (moved) RedisError()   {}

// pipelines counts those of scripts.
type pipelines struct{ n atomic.Int64 }

func (p *pipelines) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (p *pipelines) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (p *pipelines) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if strings.HasPrefix(cmds[0].Name(), "eval") {
			p.n.Add(1)
		}
		return next(ctx, cmds)
	}
}
