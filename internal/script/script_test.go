package script_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/script"
	"github.com/tandemcache/tandem/tests/leak"
	"github.com/tandemcache/tandem/tests/redisserver"
)

func TestMain(m *testing.M) { leak.Main(m) }

// count is a script that leaves a trace of each execution.
const count = `return redis.call('INCR', KEYS[1])`

// onBoth runs a test against miniredis and against Redis.
func onBoth(t *testing.T, test func(t *testing.T, addr string)) {
	t.Helper()
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		test(t, miniredis.RunT(t).Addr())
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		test(t, redisserver.Run(t, redisserver.Options{}).Addr())
	})
}

func client(t *testing.T, opt redis.Options) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(&opt)
	t.Cleanup(func() { require.NoError(t, rdb.Close()) })
	return rdb
}

// lossy is a Dialer whose connections lose the reply to a command and end, once armed for it: the server has run it, and
// the client does not know.
type lossy struct {
	command atomic.Pointer[string]
	lost    atomic.Int64
}

func (l *lossy) arm(command string) { l.command.Store(&command) }

func (l *lossy) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &lossyConn{Conn: conn, of: l}, nil
}

type lossyConn struct {
	net.Conn
	of     *lossy
	doomed atomic.Bool
	ended  atomic.Bool
}

func (c *lossyConn) Write(b []byte) (int, error) {
	if command := c.of.command.Load(); command != nil && bytes.Contains(b, []byte(*command+"\r\n")) {
		c.doomed.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *lossyConn) Read(b []byte) (int, error) {
	if c.ended.Load() {
		return 0, io.EOF
	}
	n, err := c.Conn.Read(b)
	if err == nil && c.doomed.Load() {
		c.of.lost.Add(1)
		c.ended.Store(true)
		return 0, io.EOF
	}
	return n, err
}

func TestRunSendsTheSourceOnlyToAServerThatDoesNotKnowIt(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	var mu sync.Mutex
	var sent []string
	m.Server().SetPreHook(func(_ *server.Peer, cmd string, _ ...string) bool {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasPrefix(cmd, "EVAL") {
			sent = append(sent, cmd)
		}
		return false
	})
	commands := func() []string {
		mu.Lock()
		defer mu.Unlock()
		defer func() { sent = nil }()
		return sent
	}
	rdb := client(t, redis.Options{Addr: m.Addr()})
	s := script.New(count)

	n, err := s.Run(t.Context(), rdb, []string{"n"}).Int()
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, []string{"EVALSHA", "EVAL"}, commands(), "the server did not know the script")

	n, err = s.Run(t.Context(), rdb, []string{"n"}).Int()
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, []string{"EVALSHA"}, commands(), "EVAL has made it known")

	require.NoError(t, rdb.ScriptFlush(t.Context()).Err())
	n, err = s.Run(t.Context(), rdb, []string{"n"}).Int()
	require.NoError(t, err)
	require.Equal(t, 3, n)
	require.Equal(t, []string{"EVALSHA", "EVAL"}, commands(), "as after a restart")
}

func TestRunExecutesOnceOnAServerThatForgotTheScript(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		t.Helper()
		rdb := client(t, redis.Options{Addr: addr})
		s := script.New(count)
		for i := 1; i <= 4; i++ {
			require.NoError(t, rdb.ScriptFlush(t.Context()).Err())
			n, err := s.Run(t.Context(), rdb, []string{"n"}).Int()
			require.NoError(t, err)
			require.Equal(t, i, n)
		}
	})
}

// A reply that is lost says nothing about whether the script ran. go-redis' own Script sends it again, which is what this
// package is there to prevent: the second half of the test shows that the connection is one on which that happens.
func TestNothingIsRetriedAfterALostReply(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"evalsha", "eval"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, addr string) {
				t.Helper()
				var net lossy
				rdb := client(t, redis.Options{Addr: addr, Dialer: net.Dial, MaxRetries: 3})
				judge := client(t, redis.Options{Addr: addr})
				if command == "evalsha" {
					require.NoError(t, judge.ScriptLoad(t.Context(), count).Err())
				}
				net.arm(command)

				err := script.New(count).Run(t.Context(), rdb, []string{"ours"}).Err()
				require.ErrorIs(t, err, io.EOF)
				require.EqualValues(t, 1, net.lost.Load(), "one reply is lost, and no second command sent")
				require.Equal(t, "1", judge.Get(t.Context(), "ours").Val(), "executed exactly once")

				if command == "evalsha" {
					net.lost.Store(0)
					require.Error(t, redis.NewScript(count).Run(t.Context(), rdb, []string{"theirs"}).Err())
					require.EqualValues(t, 4, net.lost.Load())
					require.Equal(t, "4", judge.Get(t.Context(), "theirs").Val(), "this client repeats what may be repeated")
				}
			})
		})
	}
}

func TestNothingIsRetriedAfterATimeout(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	var executed atomic.Int64
	m.Server().SetPreHook(func(_ *server.Peer, cmd string, _ ...string) bool {
		if strings.HasPrefix(cmd, "EVAL") {
			executed.Add(1)
			return true // taken, and never answered
		}
		return false
	})
	rdb := client(t, redis.Options{
		Addr: m.Addr(), MaxRetries: 3, ReadTimeout: 30 * time.Millisecond, MinRetryBackoff: -1, MaxRetryBackoff: -1,
	})
	err := script.New(count).Run(t.Context(), rdb, []string{"n"}).Err()
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout())
	require.EqualValues(t, 1, executed.Load())
}

// go-redis takes some answers as an invitation to try again. A script of ours is not repeated for those either: the caller
// decides what to do.
func TestNothingIsRetriedAfterAnErrorOfTheServer(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{
		"LOADING Redis is loading the dataset in memory",
		"READONLY You can't write against a read only replica.",
		"MASTERDOWN Link with MASTER is down",
		"CLUSTERDOWN The cluster is down",
		"TRYAGAIN Multiple keys request during rehashing of slot",
		"ERR max number of clients reached",
		"OOM command not allowed when used memory > 'maxmemory'.",
		"NOREPLICAS Not enough good replicas to write.",
		"BUSY Redis is busy running a script.",
		"ERR the script says NOSCRIPT",
	} {
		t.Run(strings.Fields(answer)[0], func(t *testing.T) {
			t.Parallel()
			m := miniredis.RunT(t)
			var sent atomic.Int64
			m.Server().SetPreHook(func(p *server.Peer, cmd string, _ ...string) bool {
				if strings.HasPrefix(cmd, "EVAL") {
					sent.Add(1)
					p.WriteError(answer)
					return true
				}
				return false
			})
			rdb := client(t, redis.Options{Addr: m.Addr(), MaxRetries: 3, MinRetryBackoff: -1, MaxRetryBackoff: -1})
			err := script.New(count).Run(t.Context(), rdb, []string{"n"}).Err()
			require.EqualError(t, err, answer)
			require.EqualValues(t, 1, sent.Load())
		})
	}
}

func TestASecondNOSCRIPTIsAnError(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	var sent atomic.Int64
	m.Server().SetPreHook(func(p *server.Peer, cmd string, _ ...string) bool {
		if strings.HasPrefix(cmd, "EVAL") {
			sent.Add(1)
			p.WriteError("NOSCRIPT No matching script. Please use EVAL.")
			return true
		}
		return false
	})
	rdb := client(t, redis.Options{Addr: m.Addr(), MaxRetries: 3})
	require.ErrorContains(t, script.New(count).Run(t.Context(), rdb, nil).Err(), "NOSCRIPT")
	require.EqualValues(t, 2, sent.Load(), "by hash, by source, and no more")
}

func TestAnErrorOfTheScriptIsReturned(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		t.Helper()
		rdb := client(t, redis.Options{Addr: addr})
		s := script.New(`redis.call('INCR', KEYS[1]) return redis.error_reply('ERR no')`)
		for i := 1; i <= 2; i++ { // by source, by hash
			require.ErrorContains(t, s.Run(t.Context(), rdb, []string{"n"}).Err(), "ERR no")
			require.Equal(t, strconv.Itoa(i), rdb.Get(t.Context(), "n").Val())
		}
	})
}

func TestKeysAndArgumentsArriveInOrderAndUnchanged(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		t.Helper()
		rdb := client(t, redis.Options{Addr: addr})
		s := script.New(`return {KEYS, ARGV}`)
		odd := "\x00\r\n\xff $1 {}"
		for range 2 {
			reply, err := s.Run(t.Context(), rdb, []string{"a", odd, ""}, odd, []byte{0, 255}, 7, int64(-1), "").Slice()
			require.NoError(t, err)
			require.Equal(t, []any{
				[]any{"a", odd, ""},
				[]any{odd, "\x00\xff", "7", "-1", ""},
			}, reply)
		}
		reply, err := s.Run(t.Context(), rdb, nil).Slice()
		require.NoError(t, err)
		require.Equal(t, []any{[]any{}, []any{}}, reply)
	})
}

func TestACancelledContextSendsNothing(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	rdb := client(t, redis.Options{Addr: m.Addr(), MaxRetries: 3})
	require.NoError(t, rdb.Ping(t.Context()).Err())
	before := m.CommandCount()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, script.New(count).Run(ctx, rdb, []string{"n"}).Err(), context.Canceled)
	require.Equal(t, before, m.CommandCount())
}

func TestAClosedClientIsAnError(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	require.NoError(t, rdb.Close())
	require.ErrorIs(t, script.New(count).Run(t.Context(), rdb, []string{"n"}).Err(), redis.ErrClosed)
}

func TestAnUnreachableServerIsAnError(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	rdb := client(t, redis.Options{MaxRetries: -1, DialerRetries: 1, Dialer: func(context.Context, string, string) (net.Conn, error) {
		return nil, refused
	}})
	require.ErrorIs(t, script.New(count).Run(t.Context(), rdb, []string{"n"}).Err(), refused)
}

func TestConcurrentRuns(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		t.Helper()
		const goroutines, each = 8, 50
		rdb := client(t, redis.Options{Addr: addr})
		s := script.New(count)
		errs := make(chan error, goroutines)
		for range goroutines {
			go func() {
				for range each {
					if err := s.Run(t.Context(), rdb, []string{"n"}).Err(); err != nil {
						errs <- err
						return
					}
				}
				errs <- nil
			}()
		}
		for range goroutines {
			require.NoError(t, <-errs)
		}
		require.Equal(t, fmt.Sprint(goroutines*each), rdb.Get(t.Context(), "n").Val())
	})
}
