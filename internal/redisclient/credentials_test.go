package redisclient_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/auth"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redisclient"
)

const secret = "secret"

// tokens is a StreamingCredentialsProvider that knows its listeners. asked is called first by each Subscribe, and ended by what ends
// a subscription, unless they are nil.
type tokens struct {
	name         string
	asked, ended func()

	mu         sync.Mutex
	subscribed int
	listeners  map[auth.CredentialsListener]bool
}

func (p *tokens) Subscribe(listener auth.CredentialsListener) (auth.Credentials, auth.UnsubscribeFunc, error) {
	if p.asked != nil {
		p.asked()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.subscribed++
	if p.listeners == nil {
		p.listeners = make(map[auth.CredentialsListener]bool)
	}
	p.listeners[listener] = true
	return auth.NewBasicCredentials(p.name, secret), func() error {
		if p.ended != nil {
			p.ended()
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.listeners, listener)
		return nil
	}, nil
}

// counts returns how many subscriptions there have been, and how many are left.
func (p *tokens) counts() (subscribed, left int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.subscribed, len(p.listeners)
}

func (p *tokens) renew(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for listener := range p.listeners {
		listener.OnNext(auth.NewBasicCredentials(name, secret))
	}
}

// providers are the ways to say as whom a client connects. What is set calls asked first, and then says name.
var providers = map[string]func(opt *redis.Options, name string, asked func()){
	"StreamingCredentialsProvider": func(opt *redis.Options, name string, asked func()) {
		opt.StreamingCredentialsProvider = &tokens{name: name, asked: asked}
	},
	"CredentialsProviderContext": func(opt *redis.Options, name string, asked func()) {
		opt.CredentialsProviderContext = func(context.Context) (string, string, error) {
			asked()
			return name, secret, nil
		}
	},
	"CredentialsProvider": func(opt *redis.Options, name string, asked func()) {
		opt.CredentialsProvider = func() (string, string) {
			asked()
			return name, secret
		}
	},
}

// guarded is a server that knows these users.
func guarded(t *testing.T, names ...string) *miniredis.Miniredis {
	t.Helper()
	m := miniredis.RunT(t)
	for _, name := range names {
		m.RequireUserAuth(name, secret)
	}
	return m
}

// ofCluster returns the options of a cluster with the providers of opt.
func ofCluster(opt redis.Options) *redis.ClusterOptions {
	return &redis.ClusterOptions{
		Addrs: []string{opt.Addr}, CredentialsProvider: opt.CredentialsProvider,
		CredentialsProviderContext: opt.CredentialsProviderContext, StreamingCredentialsProvider: opt.StreamingCredentialsProvider,
	}
}

func TestAProviderOfCredentialsMayMisbehave(t *testing.T) {
	t.Parallel()
	for name, set := range providers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			misbehave := map[int64]func(){1: func() { panic("not today") }, 2: runtime.Goexit}
			var calls atomic.Int64
			opt := redis.Options{Addr: guarded(t, "tom").Addr()}
			set(&opt, "tom", func() {
				if f := misbehave[calls.Add(1)]; f != nil {
					f()
				}
			})
			d := derive(t, given(t, opt))
			require.ErrorContains(t, d.Ping(t.Context()).Err(), name+" panicked: not today")
			require.ErrorContains(t, d.Ping(t.Context()).Err(), name+" called runtime.Goexit")
			require.NoError(t, d.Ping(t.Context()).Err())
		})
	}
}

func TestAProviderOfCredentialsForSentinelMayMisbehave(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	rdb := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: "main", SentinelAddrs: []string{newSentinel(t, guarded(t, "tom").Addr()).Addr()},
		CredentialsProvider: func() (string, string) {
			if calls.Add(1) == 1 {
				panic("not today")
			}
			return "tom", secret
		},
	})
	t.Cleanup(func() { _ = rdb.Close() })
	d := derive(t, rdb)
	require.ErrorContains(t, d.Ping(t.Context()).Err(), "CredentialsProvider panicked: not today")
	require.NoError(t, d.Ping(t.Context()).Err())
}

func TestAProviderOfCredentialsForAClusterMayMisbehave(t *testing.T) {
	t.Parallel()
	asking := map[string]func(t *testing.T, given *redis.ClusterClient, addr string) func(context.Context) error{
		"for the topology": func(t *testing.T, given *redis.ClusterClient, _ string) func(context.Context) error {
			router, err := redisclient.Router(given)
			require.NoError(t, err)
			t.Cleanup(func() { _ = router.Close() })
			return func(ctx context.Context) error {
				_, err := router.MasterForKey(ctx, "k")
				return err
			}
		},
		"a node": func(t *testing.T, given *redis.ClusterClient, addr string) func(context.Context) error {
			node, err := redisclient.Node(given, addr, nil)
			require.NoError(t, err)
			t.Cleanup(func() { _ = node.Close() })
			return func(ctx context.Context) error { return node.Ping(ctx).Err() }
		},
	}
	for name, set := range providers {
		for whom, ask := range asking {
			t.Run(name+", "+whom, func(t *testing.T) {
				t.Parallel()
				var calls atomic.Int64
				opt := redis.Options{Addr: guarded(t, "tom").Addr()}
				set(&opt, "tom", func() {
					if calls.Add(1) == 1 {
						panic("not today")
					}
				})
				given := redis.NewClusterClient(ofCluster(opt))
				t.Cleanup(func() { _ = given.Close() })
				f := ask(t, given, opt.Addr)
				require.ErrorContains(t, f(t.Context()), name+" panicked: not today")
				require.NoError(t, f(t.Context()))
			})
		}
	}
}

func TestWaitsObeyTheContextInAProviderOfCredentials(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"CredentialsProviderContext", "CredentialsProvider"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			let := make(chan struct{})
			defer close(let)
			var answers atomic.Bool
			opt := redis.Options{Addr: guarded(t, "tom").Addr()}
			providers[name](&opt, "tom", func() {
				if !answers.Load() {
					<-let
				}
			})
			d := derive(t, given(t, opt))
			within(t, 50*time.Millisecond, getting(d))
			within(t, 50*time.Millisecond, subscribing(d))
			answers.Store(true)
			require.NoError(t, d.Ping(t.Context()).Err())
		})
	}
}

// Of several, a derived client asks the one that the given client asks.
func TestADerivedClientIsWhoTheGivenOneIs(t *testing.T) {
	t.Parallel()
	all := []string{"StreamingCredentialsProvider", "CredentialsProviderContext", "CredentialsProvider", "Username"}
	for i, first := range all {
		t.Run(first, func(t *testing.T) {
			t.Parallel()
			m := guarded(t, all...)
			greeted := make(chan string, 16)
			m.Server().SetPreHook(func(_ *server.Peer, cmd string, args ...string) bool {
				if cmd == "HELLO" {
					greeted <- args[2]
				}
				return false
			})
			opt := redis.Options{Addr: m.Addr(), Username: "Username", Password: secret}
			for _, name := range all[i : len(all)-1] {
				providers[name](&opt, name, func() {})
			}
			rdb := given(t, opt)
			for _, client := range []*redis.Client{rdb, derive(t, rdb).Client} {
				require.NoError(t, client.Ping(t.Context()).Err())
				require.Equal(t, first, <-greeted)
			}
			require.Empty(t, greeted)
		})
	}
}

func TestNewCredentialsReachAConnectionThatIsOpen(t *testing.T) {
	t.Parallel()
	m := guarded(t, "tom", "ann")
	var again atomic.Bool
	m.Server().SetPreHook(func(_ *server.Peer, cmd string, args ...string) bool {
		if cmd == "AUTH" && args[0] == "ann" {
			again.Store(true)
		}
		return false
	})
	p := &tokens{name: "tom"}
	d := derive(t, given(t, redis.Options{Addr: m.Addr(), StreamingCredentialsProvider: p}))
	require.NoError(t, d.Ping(t.Context()).Err())
	p.renew("ann")
	require.Eventually(t, func() bool { return d.Ping(t.Context()).Err() == nil && again.Load() }, patience, time.Millisecond)
	require.NoError(t, d.Close())
	require.Eventually(t, func() bool { _, left := p.counts(); return left == 0 }, patience, time.Millisecond)
}

// unreadable are credentials that cannot be told.
type unreadable struct{ auth.Credentials }

func (unreadable) BasicAuth() (string, string) { panic("no token") }

type unreadableTokens struct{ tokens }

func (p *unreadableTokens) Subscribe(listener auth.CredentialsListener) (auth.Credentials, auth.UnsubscribeFunc, error) {
	credentials, end, err := p.tokens.Subscribe(listener)
	return unreadable{credentials}, end, err
}

func TestASubscriptionToCredentialsThatCannotBeToldIsEnded(t *testing.T) {
	t.Parallel()
	p := &unreadableTokens{}
	d := derive(t, given(t, redis.Options{Addr: miniredis.RunT(t).Addr(), StreamingCredentialsProvider: p}))
	require.ErrorContains(t, d.Ping(t.Context()).Err(), "StreamingCredentialsProvider panicked: no token")
	require.Eventually(t, func() bool { _, left := p.counts(); return left == 0 }, patience, time.Millisecond)
}

func TestTheEndOfASubscriptionMayMisbehave(t *testing.T) {
	t.Parallel()
	for name, misbehave := range map[string]func(){"panic": func() { panic("not today") }, "exit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ended atomic.Int64
			p := &tokens{name: "tom", ended: func() { ended.Add(1); misbehave() }}
			d := derive(t, given(t, redis.Options{Addr: guarded(t, "tom").Addr(), StreamingCredentialsProvider: p}))
			require.NoError(t, d.Ping(t.Context()).Err())
			require.NoError(t, d.Close())
			require.Eventually(t, func() bool { return ended.Load() == 1 }, patience, time.Millisecond)
		})
	}
}
