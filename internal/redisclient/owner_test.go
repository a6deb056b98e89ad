package redisclient_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redisclient"
)

func TestVerifyRefusesConnections(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	var connected, verified atomic.Int64
	refuse := errors.New("not this one")
	rdb := given(t, redis.Options{Addr: m.Addr(), OnConnect: func(context.Context, *redis.Conn) error {
		connected.Add(1)
		return nil
	}})
	d, err := redisclient.Derive(rdb, func(ctx context.Context, cn *redis.Conn) error {
		if verified.Add(1) == 1 {
			return refuse
		}
		return cn.Ping(ctx).Err()
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.Close() })
	require.ErrorIs(t, d.Ping(t.Context()).Err(), refuse)
	require.NoError(t, d.Ping(t.Context()).Err())
	require.EqualValues(t, 2, connected.Load(), "the owner's own hook runs as well")
}

func TestTheOwnersHookMayMisbehave(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	misbehave := map[int64]func(){1: func() { panic("not today") }, 2: runtime.Goexit}
	var calls atomic.Int64
	d := derive(t, given(t, redis.Options{Addr: m.Addr(), OnConnect: func(context.Context, *redis.Conn) error {
		if f := misbehave[calls.Add(1)]; f != nil {
			f()
		}
		return nil
	}}))
	require.ErrorContains(t, d.Ping(t.Context()).Err(), "OnConnect panicked: not today")
	require.ErrorContains(t, d.Ping(t.Context()).Err(), "OnConnect called runtime.Goexit")
	require.NoError(t, d.Ping(t.Context()).Err())
}

func TestADialerThatExitsItsGoroutine(t *testing.T) {
	t.Parallel()
	d := derive(t, given(t, redis.Options{Addr: "nowhere:1", Dialer: func(context.Context, string, string) (net.Conn, error) {
		runtime.Goexit()
		return nil, errors.New("not reached")
	}}))
	require.ErrorContains(t, d.Ping(t.Context()).Err(), "the dialer called runtime.Goexit")
}

// A hook that asks the server under a context of its own, and gets no answer.
func TestWaitsObeyTheContextInTheOwnersHook(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	let := make(chan struct{})
	defer close(let)
	m.Server().SetPreHook(func(_ *server.Peer, cmd string, _ ...string) bool {
		if cmd == "ECHO" {
			<-let
		}
		return false
	})
	d := derive(t, given(t, redis.Options{Addr: m.Addr(), OnConnect: func(_ context.Context, cn *redis.Conn) error {
		return cn.Echo(context.Background(), "anybody?").Err()
	}}))
	within(t, 50*time.Millisecond, func(ctx context.Context) error { return d.Ping(ctx).Err() })
}

// A dialer that hangs, whatever its context says, is not asked again and again.
func TestDialsThatHangAreBounded(t *testing.T) {
	t.Parallel()
	let := make(chan struct{})
	defer close(let)
	var dials atomic.Int64
	d := derive(t, given(t, redis.Options{Addr: "nowhere:1", PoolSize: 100, Dialer: func(context.Context, string, string) (net.Conn, error) {
		dials.Add(1)
		<-let
		return nil, errors.New("nobody there")
	}, DialTimeout: time.Millisecond}))
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		return strings.Contains(d.Ping(ctx).Err().Error(), "still hang")
	}, patience, time.Millisecond)
	require.LessOrEqual(t, dials.Load(), int64(32))
}
