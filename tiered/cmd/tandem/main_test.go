package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/leak"
	"github.com/tandemcache/tandem/tests/port"
)

// patience is for what takes a moment, and much longer on a busy machine.
const patience = 20 * time.Second

// asCommand in the environment has the tests' program be the command: a signal is for a process.
const asCommand = "TANDEM_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	redis.SetLogger(silent{})
	leak.Main(runner{m})
}

// runner stops what tests share before goroutines are counted.
type runner struct{ m *testing.M }

func (r runner) Run() int {
	defer func() { _ = sharedCluster.Close() }()
	return r.m.Run()
}

type outcome struct {
	code        int
	out, errOut string
}

// tandem runs the command as main does.
func tandem(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	var out, errOut bytes.Buffer
	code := run(t.Context(), args, strings.NewReader(stdin), &out, &errOut)
	return outcome{code, out.String(), errOut.String()}
}

// lyingRedis answers that it has deleted what it keeps: invalidations that are acknowledged and have no effect.
func lyingRedis(t *testing.T) *miniredis.Miniredis {
	t.Helper()
	m := miniredis.RunT(t)
	m.Server().SetPreHook(func(peer *server.Peer, cmd string, args ...string) bool {
		if !strings.EqualFold(cmd, "UNLINK") {
			return false
		}
		peer.WriteInt(len(args))
		return true
	})
	return m
}

// refusingRedis refuses to delete keys once it has done so a number of times.
func refusingRedis(t *testing.T, times int64) *miniredis.Miniredis {
	t.Helper()
	m := miniredis.RunT(t)
	var deleted atomic.Int64
	m.Server().SetPreHook(func(peer *server.Peer, cmd string, _ ...string) bool {
		if !strings.EqualFold(cmd, "UNLINK") || deleted.Add(1) <= times {
			return false
		}
		peer.WriteError("ERR no more")
		return true
	})
	return m
}

// syncBuffer is a buffer that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"help"}, {"-h"}, {"--help"}} {
		got := tandem(t, "", args...)
		require.Zero(t, got.code)
		require.Contains(t, got.out, "Start with tandem demo")
		require.Empty(t, got.errOut)
	}
	for _, c := range commands() {
		for _, args := range [][]string{{"help", c.name}, {c.name, "-h"}, {c.name, "-help"}} {
			got := tandem(t, "", args...)
			require.Zero(t, got.code)
			require.Contains(t, got.out, "usage: tandem "+c.name)
			require.Contains(t, got.out, "-redis")
			require.Empty(t, got.errOut)
			for line := range strings.Lines(got.out) {
				require.LessOrEqual(t, len([]rune(line)), 101, line)
			}
		}
	}
}

func TestBadCommandLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", 8<<10+1)
	for _, c := range []struct {
		want string
		args []string
	}{
		{`there is no command "nope"`, []string{"nope"}},
		{`there is no command "nope"`, []string{"help", "nope"}},
		{"flag provided but not defined: -nope", []string{"demo", "-nope"}},
		{`it takes no arguments, got "x"`, []string{"demo", "x"}},
		{"-instances is 1, must be from 2", []string{"demo", "-instances", "1"}},
		{"-readers is 0", []string{"demo", "-readers", "0"}},
		{"-load is 1h0m0s", []string{"demo", "-load", "1h"}},
		{"-load is -5s, must be from 0 to 5s", []string{"demo", "-load", "-5s"}},
		{"-load is -5s, must be from 0 to 5s", []string{"demo", "-load", "-5s", "-redis", "127.0.0.1:1"}},
		{"-load is -1ns, must be from 0 to 5s", []string{"demo", "-load", "-1ns", "-trace", "f"}},
		{"-max-staleness is 1ms", []string{"demo", "-max-staleness", "1ms"}},
		{"-writes has no effect without -trace", []string{"demo", "-writes", "1"}},
		{"-cuts has no effect with -trace", []string{"demo", "-trace", "f", "-cuts", "1"}},
		{"-db has no effect without -redis", []string{"demo", "-db", "1"}},
		{"must be host:port", []string{"demo", "-redis", "nope"}},
		{"-writes is 101", []string{"demo", "-trace", "f", "-writes", "101"}},
		{"-workers is 0", []string{"demo", "-trace", "f", "-workers", "0"}},
		{"-limit is -1", []string{"demo", "-trace", "f", "-limit", "-1"}},
		{"-local-bytes is 1000, must be at least 1048576", []string{"demo", "-trace", "f", "-local-bytes", "1000"}},
		{"-local-bytes is 0, must be at least 1048576", []string{"demo", "-trace", "f", "-local-bytes", "0"}},
		{"not 0 arguments", []string{"get"}},
		{"not 3 arguments", []string{"get", "users", "1", "2"}},
		{"invalid cache name", []string{"get", "us{ers", "1"}},
		{"invalid key: it is empty", []string{"get", "users", ""}},
		{"does not start with tandem:{", []string{"get", "users"}},
		{"it takes the name of a cache", []string{"invalidate"}},
		{"it takes keys, -tag, or -all", []string{"invalidate", "users"}},
		{"with -all it takes no keys", []string{"invalidate", "users", "1", "-all"}},
		{"with -all it takes no keys and no tags", []string{"invalidate", "users", "-tag", "red", "-all"}},
		{"it takes the name of a cache", []string{"invalidate", "-tag", "red"}},
		{`invalid value "" for flag -tag: invalid tag: it is empty`, []string{"invalidate", "users", "-tag", ""}},
		{"invalid cache name", []string{"invalidate", "", "1"}},
		{"key 2: invalid key: it is empty", []string{"invalidate", "users", "1", ""}},
		{"key 1: invalid key: it has 8193 bytes", []string{"invalidate", "users", long}},
		{"invalid cache name", []string{"watch", "us ers"}},
		{"one cache or none, not 2", []string{"watch", "a", "b"}},
	} {
		got := tandem(t, "", c.args...)
		require.Equal(t, exitUsage, got.code, "%.60q", c.args)
		require.Contains(t, got.errOut, c.want, "%.60q", c.args)
		require.Empty(t, got.out, "%.60q", c.args)
	}
}

func TestFlagsMayStandAnywhere(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	for _, args := range [][]string{
		{"invalidate", "-redis", m.Addr(), "users", "1"},
		{"invalidate", "users", "-redis", m.Addr(), "1"},
		{"invalidate", "users", "1", "-redis", m.Addr()},
		{"invalidate", "users", "-redis=" + m.Addr(), "--", "-1"},
	} {
		got := tandem(t, "", args...)
		require.Equal(t, outcome{exitOK, "invalidated 1 key of cache users\n", ""}, got, "%q", args)
	}
}

func TestNoRedisIsAFailure(t *testing.T) {
	t.Parallel()
	nobody, err := port.Reserve()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, nobody.Release()) })
	addr := nobody.Addr()
	for _, args := range [][]string{
		{"demo"}, {"get", "users", "1"}, {"invalidate", "users", "1"}, {"invalidate", "-all", "users"},
		{"invalidate", "-tag", "red", "users"}, {"watch"}, {"watch", "users"},
	} {
		got := tandem(t, "", append(args, "-redis", addr)...)
		require.Equal(t, exitFailure, got.code, "%q", args)
		require.Contains(t, got.errOut, "the Redis at "+addr, "%q", args)
		require.Contains(t, got.errOut, "refused", "%q", args)
	}
}

// start runs the command until the test ends or stop is called, which returns the exit code.
func start(t *testing.T, args ...string) (out *syncBuffer, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out = &syncBuffer{}
	code := make(chan int, 1)
	go func() { code <- run(ctx, args, strings.NewReader(""), out, out) }()
	stop = sync.OnceValue(func() int {
		cancel()
		select {
		case c := <-code:
			return c
		case <-time.After(patience):
			return -1
		}
	})
	t.Cleanup(func() { stop() })
	return out, stop
}

// eventually polls on the test's own goroutine.
func eventually(t *testing.T, is func() bool, about ...string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "not within %v %v", patience, about)
	}
}
