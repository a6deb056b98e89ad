package redisclient_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redisclient"
)

func getting(d *redisclient.Client) func(context.Context) error {
	return func(ctx context.Context) error { return d.Get(ctx, "k").Err() }
}

// subscribing does so on a connection that is yet to be made.
func subscribing(d *redisclient.Client) func(context.Context) error {
	return func(ctx context.Context) error {
		ps := d.Subscribe(context.Background())
		defer func() { _ = ps.Close() }()
		return ps.Subscribe(ctx, "c")
	}
}

// The given client's own settings would make it wait for five seconds here, and then for a hundred.
func TestWaitsObeyTheContextOnAServerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	addr := blackhole(t)
	for name, opt := range map[string]redis.Options{
		"defaults": {Addr: addr},
		"patient":  {Addr: addr, ReadTimeout: time.Hour, WriteTimeout: time.Hour, DialTimeout: time.Hour, PoolTimeout: time.Hour, MaxRetries: 10},
		"for ever": {Addr: addr, ReadTimeout: -1, WriteTimeout: -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := given(t, opt)
			require.False(t, rdb.Options().ContextTimeoutEnabled)
			d := derive(t, rdb)
			within(t, 300*time.Millisecond, getting(d))
			within(t, 300*time.Millisecond, subscribing(d))
		})
	}
}

func TestWaitsObeyTheContextOnAConnectionThatWentSilent(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	d := derive(t, given(t, redis.Options{Addr: m.Addr()}))
	require.NoError(t, d.Ping(t.Context()).Err())
	m.Server().SetPreHook(func(*server.Peer, string, ...string) bool { return true })
	within(t, 300*time.Millisecond, getting(d))
}

func TestWaitsObeyTheContextWhileDialling(t *testing.T) {
	t.Parallel()
	rdb := given(t, redis.Options{Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done() // a SYN that nobody answers
		return nil, ctx.Err()
	}})
	d := derive(t, rdb)
	within(t, 300*time.Millisecond, getting(d))
	within(t, 300*time.Millisecond, subscribing(d))
}

// A dialer may look at no context. Whoever waits for it does, and what it brings when nobody wants it any more is closed.
func TestAConnectionThatComesTooLateIsClosed(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	var l line
	gate := make(chan struct{})
	rdb := given(t, redis.Options{Addr: m.Addr(), Dialer: func(_ context.Context, network, addr string) (net.Conn, error) {
		<-gate
		return l.Dial(context.Background(), network, addr)
	}})
	d := derive(t, rdb)
	within(t, 300*time.Millisecond, subscribing(d))
	require.Zero(t, l.dialled.Load())
	close(gate)
	require.Eventually(t, func() bool { return l.dialled.Load() > 0 && l.open.Load() == 0 }, patience, time.Millisecond)
	require.NoError(t, d.Ping(t.Context()).Err(), "the next one is wanted")
}

// explosive is a connection that cannot be closed without a panic.
type explosive struct {
	net.Conn
	closed chan struct{}
}

func (c *explosive) Close() error {
	_ = c.Conn.Close()
	close(c.closed)
	panic("not today")
}

func TestAConnectionThatComesTooLateMayPanic(t *testing.T) {
	t.Parallel()
	gate, closed := make(chan struct{}), make(chan struct{})
	d := derive(t, given(t, redis.Options{Dialer: func(context.Context, string, string) (net.Conn, error) {
		<-gate
		conn, _ := net.Pipe()
		return &explosive{conn, closed}, nil
	}}))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, subscribing(d)(ctx), context.DeadlineExceeded)
	close(gate)
	<-closed
}

// A dial outlives the call that asked for it, since go-redis would like to keep the connection; but not for long.
func TestDialsInTheBackgroundAreBounded(t *testing.T) {
	t.Parallel()
	left := make(chan time.Duration, 16)
	rdb := given(t, redis.Options{DialTimeout: time.Hour, Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
		at, ok := ctx.Deadline()
		if !ok {
			at = time.Now().Add(time.Hour)
		}
		left <- time.Until(at)
		return nil, errors.New("refused")
	}})
	d := derive(t, rdb)
	require.Error(t, d.Get(context.Background(), "k").Err())
	require.LessOrEqual(t, <-left, 2*time.Second)
	require.Empty(t, left, "tried once")
}

// With TLS, go-redis' own dialer does not look at the context at all: a server that accepts connections and does not
// shake hands keeps whoever subscribes for the given client's DialTimeout.
func TestWaitsObeyTheContextInATLSHandshake(t *testing.T) {
	t.Parallel()
	addr := blackhole(t)
	rdb := given(t, redis.Options{Addr: addr, DialTimeout: 1500 * time.Millisecond, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12}})
	t.Run("command", func(t *testing.T) {
		t.Parallel()
		d := derive(t, rdb)
		within(t, 300*time.Millisecond, getting(d))
	})
	t.Run("subscription", func(t *testing.T) {
		t.Parallel()
		d := derive(t, rdb)
		within(t, 300*time.Millisecond, subscribing(d))
	})
}

// The wait of a command is bounded without leaving anything behind for it. Not parallel: it counts the process's goroutines.
func TestTimedOutCallsLeaveNothingBehind(t *testing.T) {
	const calls, rounds, poolSize = 200, 3, 8
	var l line
	rdb := given(t, redis.Options{Addr: blackhole(t), Dialer: l.Dial, PoolSize: poolSize})
	d := derive(t, rdb)
	before := runtime.NumGoroutine()
	for range rounds {
		var wg sync.WaitGroup
		began := time.Now()
		for range calls {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
				defer cancel()
				if err := d.Get(ctx, "k").Err(); err == nil {
					t.Error("a blackhole answered")
				}
			})
		}
		wg.Wait()
		require.Less(t, time.Since(began), 3*time.Second)
		require.Eventually(t, func() bool { return l.open.Load() <= poolSize }, patience, time.Millisecond,
			"connections do not add up from round to round")
	}
	// The pool gives a place away a moment before it closes the connection that had it.
	require.LessOrEqual(t, l.peak.Load(), int64(2*poolSize))
	// Eventually has a goroutine of its own for the condition.
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, patience, 10*time.Millisecond, "goroutines of the calls")
	require.NoError(t, d.Close())
	require.Eventually(t, func() bool { return l.open.Load() == 0 }, patience, 10*time.Millisecond, "connections after Close")
}

func TestSubscriptionsThatTimedOutLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	var l line
	d := derive(t, given(t, redis.Options{Addr: blackhole(t), Dialer: l.Dial}))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			ps := d.Subscribe(ctx)
			if err := errors.Join(ps.Subscribe(ctx, "c"), ps.Close()); err == nil {
				t.Error("a blackhole answered")
			}
		})
	}
	wg.Wait()
	require.Eventually(t, func() bool { return l.open.Load() == 0 }, patience, time.Millisecond)
}
