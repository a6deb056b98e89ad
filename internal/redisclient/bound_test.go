package redisclient_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redisclient"
)

// hangLimit is how long the owner's code is waited for that no context bounds.
const hangLimit = 2 * time.Second

// inBubble returns options for a server behind pipes, which a bubble can have.
func inBubble(t *testing.T) redis.Options {
	t.Helper()
	m := miniredis.NewMiniRedis()
	t.Cleanup(m.Close)
	conn, err := m.Dial() // starts the server
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	m.RequireUserAuth("tom", secret)
	return redis.Options{
		Addr: "127.0.0.1:1", Username: "tom", Password: secret, DialTimeout: -1,
		Dialer: func(context.Context, string, string) (net.Conn, error) { return m.Dial() },
	}
}

// endsAfter requires that f ends then, and not before, for want of time.
func endsAfter(t *testing.T, limit time.Duration, f func() error) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- f() }()
	time.Sleep(limit - 1)
	synctest.Wait()
	require.Empty(t, ended)
	time.Sleep(1)
	synctest.Wait()
	require.Len(t, ended, 1)
	require.ErrorIs(t, <-ended, context.DeadlineExceeded)
}

// owners are the options that are code which making a connection calls. What is set calls f before it does its work.
func owners() map[string]func(opt *redis.Options, f func()) {
	all := map[string]func(opt *redis.Options, f func()){
		"Dialer": func(opt *redis.Options, f func()) {
			dial := opt.Dialer
			opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
				f()
				return dial(ctx, network, addr)
			}
		},
		"OnConnect": func(opt *redis.Options, f func()) {
			opt.OnConnect = func(context.Context, *redis.Conn) error { f(); return nil }
		},
	}
	for name, set := range providers {
		all[name] = func(opt *redis.Options, f func()) { set(opt, "tom", f) }
	}
	return all
}

func TestTheOwnersCodeIsNotWaitedForWithoutEnd(t *testing.T) {
	for name, set := range owners() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				let := make(chan struct{})
				var answers atomic.Bool
				opt := inBubble(t)
				set(&opt, func() {
					if !answers.Load() {
						<-let
					}
				})
				d := derive(t, given(t, opt))
				defer close(let)
				endsAfter(t, hangLimit, func() error { return d.Ping(context.Background()).Err() })
				answers.Store(true)
				require.NoError(t, d.Ping(context.Background()).Err())
			})
		})
	}
}

// A context from Deadline is never done.
func TestADeadlineBoundsTheOwnersCode(t *testing.T) {
	for _, name := range []string{"OnConnect", "CredentialsProviderContext", "CredentialsProvider"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				let := make(chan struct{})
				opt := inBubble(t)
				owners()[name](&opt, func() { <-let })
				d := derive(t, given(t, opt))
				defer close(let)
				ctx := redisclient.Deadline(context.Background(), time.Now().Add(time.Second))
				endsAfter(t, time.Second, func() error { return d.Ping(ctx).Err() })
			})
		})
	}
}

// What looks at its context is told that nobody waits any more.
func TestTheOwnersCodeIsToldOfItsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		let, told := make(chan struct{}), make(chan struct{})
		opt := inBubble(t)
		opt.CredentialsProviderContext = func(ctx context.Context) (string, string, error) {
			select {
			case <-ctx.Done():
				close(told)
			case <-let:
			}
			return "", "", ctx.Err()
		}
		d := derive(t, given(t, opt))
		defer close(let)
		endsAfter(t, hangLimit, func() error { return d.Ping(context.Background()).Err() })
		select {
		case <-told:
		default:
			t.Fatal("it goes on")
		}
	})
}

// go-redis makes one reload at a time, under a context that never ends.
func TestAReloadOfTheTopologyThatHangsIsNotTheLast(t *testing.T) {
	no := errors.New("not today")
	for name, set := range map[string]func(opt *redis.ClusterOptions, f func()){
		"OnConnect": func(opt *redis.ClusterOptions, f func()) {
			opt.OnConnect = func(context.Context, *redis.Conn) error { f(); return no }
		},
		"CredentialsProviderContext": func(opt *redis.ClusterOptions, f func()) {
			opt.CredentialsProviderContext = func(context.Context) (string, string, error) { f(); return "", "", no }
		},
		"ClusterSlots": func(opt *redis.ClusterOptions, f func()) {
			opt.ClusterSlots = func(context.Context) ([]redis.ClusterSlot, error) { f(); return nil, no }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				let := make(chan struct{})
				var calls atomic.Int64
				node := inBubble(t)
				opt := &redis.ClusterOptions{Addrs: []string{node.Addr}, Dialer: node.Dialer, Username: node.Username, Password: node.Password}
				set(opt, func() { calls.Add(1); <-let })
				given := redis.NewClusterClient(opt)
				router, err := redisclient.Router(given)
				require.NoError(t, err)
				t.Cleanup(func() { _ = router.Close(); _ = given.Close() })
				defer close(let)
				for range 3 {
					router.ReloadState(t.Context())
					time.Sleep(hangLimit + time.Millisecond)
				}
				require.EqualValues(t, 3, calls.Load())
			})
		})
	}
}

func TestClusterSlotsMayMisbehave(t *testing.T) {
	t.Parallel()
	given := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: []string{"127.0.0.1:1"}, ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) { panic("not today") },
	})
	t.Cleanup(func() { _ = given.Close() })
	router, err := redisclient.Router(given)
	require.NoError(t, err)
	t.Cleanup(func() { _ = router.Close() })
	_, err = router.MasterForKey(t.Context(), "k")
	require.ErrorContains(t, err, "ClusterSlots panicked: not today")
}

// Subscribe is given no context, so that it is not the caller's that bounds it.
func TestASubscriptionToCredentialsThatComesTooLateIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		let := make(chan struct{})
		var answers atomic.Bool
		p := &tokens{name: "tom", asked: func() {
			if !answers.Load() {
				<-let
			}
		}}
		opt := inBubble(t)
		opt.StreamingCredentialsProvider = p
		d := derive(t, given(t, opt))
		release := sync.OnceFunc(func() { close(let) })
		defer release()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		endsAfter(t, hangLimit, func() error { return d.Ping(ctx).Err() })
		answers.Store(true)
		require.NoError(t, d.Ping(ctx).Err())
		release()
		synctest.Wait()
		subscribed, left := p.counts()
		require.Equal(t, 2, subscribed)
		require.Equal(t, 1, left, "that of the connection that was made")
		require.NoError(t, d.Close())
		_, left = p.counts()
		require.Zero(t, left)
	})
}

// Nobody who closes a connection waits for a provider that hangs, and still it is told of every one.
func TestTheEndOfASubscriptionIsNotWaitedFor(t *testing.T) {
	const connections = 20
	synctest.Test(t, func(t *testing.T) {
		let := make(chan struct{})
		var ending atomic.Int64
		p := &tokens{name: "tom", ended: func() { ending.Add(1); <-let }}
		opt := inBubble(t)
		opt.StreamingCredentialsProvider = p
		d := derive(t, given(t, opt))
		defer func() { close(let); synctest.Wait() }()
		var open []*redis.PubSub
		for range connections {
			ps := d.Subscribe(t.Context())
			require.NoError(t, ps.Subscribe(t.Context(), "c"))
			open = append(open, ps)
		}
		for _, ps := range open {
			began := time.Now()
			require.NoError(t, ps.Close())
			require.Less(t, time.Since(began), 100*time.Millisecond)
			time.Sleep(hangLimit)
		}
		require.EqualValues(t, connections, ending.Load())
		require.ErrorContains(t, d.Ping(t.Context()).Err(), "still hang", "and no more subscriptions are made")
	})
}
