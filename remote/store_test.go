package remote

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/redisserver"
)

// calls are all that a Store sends.
var calls = map[string]func(ctx context.Context, s *Store) error{
	"Get": func(ctx context.Context, s *Store) error { _, err := s.Get(ctx, key); return err },
	"Acquire": func(ctx context.Context, s *Store) error {
		_, err := s.Acquire(ctx, key, NewToken(), Wanted, ttl, "inbox")
		return err
	},
	"Renew": func(ctx context.Context, s *Store) error { _, err := s.Renew(ctx, key, NewToken(), ttl); return err },
	"Fill": func(ctx context.Context, s *Store) error {
		_, err := s.Fill(ctx, key, NewToken(), []byte("v"), ttl, 1, []byte("filled"))
		return err
	},
	"Release": func(ctx context.Context, s *Store) error { return s.Release(ctx, key, NewToken(), []byte("failed")) },
	"Set": func(ctx context.Context, s *Store) error {
		_, err := s.Set(ctx, key, []byte("v"), ttl, 1, 1, []byte("inv"))
		return err
	},
	"Invalidate":    func(ctx context.Context, s *Store) error { return s.Invalidate(ctx, []string{key}, []byte("inv")) },
	"InvalidateAll": func(ctx context.Context, s *Store) error { return s.InvalidateAll(ctx, only, []byte("all"))[0] },
}

func newStore(t *testing.T, rdb redis.UniversalClient) *Store {
	t.Helper()
	keys, err := KeysFor("users")
	require.NoError(t, err)
	return New(rdb, Options{Keys: keys, Schema: schemaA, DB: db, MaxBytes: maxBytes})
}

func TestAnErrorOfRedisIsReturned(t *testing.T) {
	t.Parallel()
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := miniredis.RunT(t)
			s := newStore(t, newClient(t, m.Addr()))
			require.NoError(t, call(t.Context(), s))
			m.SetError("LOADING not yet")
			require.EqualError(t, call(t.Context(), s), "LOADING not yet")
			m.SetError("")
			require.NoError(t, call(t.Context(), s))
			m.Close()
			require.Error(t, call(t.Context(), s))
		})
	}
}

func TestEveryCallObeysTheContext(t *testing.T) {
	t.Parallel()
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := miniredis.RunT(t)
			s := newStore(t, newClient(t, m.Addr()))
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			require.ErrorIs(t, call(ctx, s), context.Canceled)
			require.Empty(t, m.Keys(), "nothing was sent")

			m.Server().SetPreHook(func(*server.Peer, string, ...string) bool { return true }) // no answer
			ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			began := time.Now()
			require.Error(t, call(ctx, s))
			require.Less(t, time.Since(began), patience/2)
		})
	}
}

// sent counts the commands of a client.
type sent struct{ n atomic.Uint64 }

func (s *sent) DialHook(next redis.DialHook) redis.DialHook { return next }
func (s *sent) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		s.n.Add(1)
		return next(ctx, cmd)
	}
}

func (s *sent) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func TestEveryCallIsOneCommandToAServerThatKnowsTheScripts(t *testing.T) {
	t.Parallel()
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := newClient(t, miniredis.RunT(t).Addr())
			s := newStore(t, rdb)
			require.NoError(t, call(t.Context(), s))
			var sent sent
			rdb.AddHook(&sent)
			before := s.Commands()
			for i := uint64(1); i <= 3; i++ {
				require.NoError(t, call(t.Context(), s))
				require.Equal(t, i, sent.n.Load())
				require.Equal(t, i, s.Commands()-before)
			}
		})
	}
}

func TestCommandsCountsWhatWasSent(t *testing.T) {
	t.Parallel()
	rdb := newClient(t, miniredis.RunT(t).Addr())
	s := newStore(t, rdb)
	require.NoError(t, rdb.Ping(t.Context()).Err())
	var sent sent
	rdb.AddHook(&sent)
	for _, call := range calls {
		require.NoError(t, call(t.Context(), s))
	}
	require.Equal(t, sent.n.Load(), s.Commands())
}

// Whoever sends a script twice undoes what another instance has done in between.
func TestNoScriptIsSentTwice(t *testing.T) {
	t.Parallel()
	for name, call := range calls {
		if name == "Get" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := miniredis.RunT(t)
			rdb := redis.NewClient(&redis.Options{Addr: m.Addr(), MaxRetries: 5, MinRetryBackoff: -1, MaxRetryBackoff: -1})
			t.Cleanup(func() { _ = rdb.Close() })
			s := newStore(t, rdb)
			require.NoError(t, call(t.Context(), s))
			var sent atomic.Int64
			m.Server().SetPreHook(func(p *server.Peer, cmd string, _ ...string) bool {
				if !strings.HasPrefix(cmd, "EVAL") {
					return false
				}
				sent.Add(1)
				p.Close()
				return true
			})
			require.Error(t, call(t.Context(), s))
			require.EqualValues(t, 1, sent.Load())
		})
	}
}

func TestUnusable(t *testing.T) {
	t.Parallel()
	require.Equal(t, Seen("da39a3ee5e6b4b0d3255bfef95601890afd80709"), Unusable(nil))
	require.NotEqual(t, Unusable([]byte("a")), Unusable([]byte("b")))
	for _, s := range []Seen{Unusable(nil), Unusable([]byte("*"))} {
		require.NotContains(t, []Seen{Wanted, Unwanted}, s)
	}
}

func TestParseLeaseRefusesWhatTheScriptDoesNotSay(t *testing.T) {
	t.Parallel()
	epoch := "00000000000000ff"
	for name, reply := range map[string][]any{
		"nothing":              {},
		"too short":            {int64(1), epoch},
		"code 0":               {int64(0), epoch, int64(5)},
		"code 4":               {int64(4), epoch, int64(5)},
		"negative code":        {int64(-1), epoch, int64(5)},
		"code of another type": {"1", epoch, int64(5)},
		"no code":              {nil, epoch, int64(5)},
		"epoch too short":      {int64(1), "ff", int64(5)},
		"epoch not hex":        {int64(1), "00000000000000zz", int64(5)},
		"no epoch":             {int64(1), nil, int64(5)},
		"epoch a number":       {int64(1), int64(255), int64(5)},
		"now a string":         {int64(1), epoch, "5"},
		"no now":               {int64(1), epoch, nil},
		"found nothing":        {int64(2), epoch, int64(5)},
		"found a number":       {int64(2), epoch, int64(5), int64(1)},
		"found nil":            {int64(2), epoch, int64(5), nil},
	} {
		l, err := parseLease(reply)
		require.ErrorIs(t, err, errReply, name)
		require.Zero(t, l, name)
	}
	l, err := parseLease([]any{int64(2), epoch, int64(5), "value"})
	require.NoError(t, err)
	require.Equal(t, Lease{Outcome: Found, Epoch: 255, Now: 5, Value: []byte("value")}, l)
	l, err = parseLease([]any{int64(3), epoch, int64(5), "value"})
	require.NoError(t, err)
	require.Equal(t, Lease{Outcome: Held, Epoch: 255, Now: 5}, l, "a value beside another outcome is none")
}

func TestAcquireSaysWhoAnsweredNonsense(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	m.Server().SetPreHook(func(p *server.Peer, cmd string, _ ...string) bool {
		if strings.HasPrefix(cmd, "EVAL") {
			p.WriteStrings([]string{"x"})
			return true
		}
		return false
	})
	s := newStore(t, newClient(t, m.Addr()))
	_, err := s.Acquire(t.Context(), key, NewToken(), Wanted, ttl, "inbox")
	require.ErrorIs(t, err, errReply)
	require.ErrorContains(t, err, "acquire.lua")
}

// full makes Redis refuse what needs memory.
func full(t *testing.T, rdb *redis.Client, is bool) {
	t.Helper()
	limit := "0"
	if is {
		limit = "1"
	}
	require.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory", limit).Err())
}

func requireOOM(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	require.True(t, strings.HasPrefix(err.Error(), "OOM"), err)
}

// A Redis that is full refuses what would need memory, and nothing is left half done; whatever gives up, deletes or tells
// needs none.
func TestRedisOutOfMemory(t *testing.T) {
	t.Parallel()
	srv := redisserver.Run(t, redisserver.Options{Args: []string{"--maxmemory-policy", "noeviction"}})
	// newFull is a cache with a lease that is held and waited for, in a Redis that is full.
	start := func(t *testing.T) (*fixture, Token, Lease, *ears) {
		t.Helper()
		rdb := newClient(t, srv.Addr())
		full(t, rdb, false)
		f := newFixture(t, rdb)
		token := NewToken()
		l := f.acquire(f.a, token)
		f.wait(f.a, "waiter-"+f.keys.parts[0].prefix)
		ears := f.listen("waiter-"+f.keys.parts[0].prefix, f.channel())
		full(t, rdb, true)
		t.Cleanup(func() { _ = rdb.ConfigSet(context.Background(), "maxmemory", "0").Err() })
		return f, token, l, ears
	}

	t.Run("fill stores nothing and keeps the lease, which can be released", func(t *testing.T) {
		f, token, l, ears := start(t)
		stored, err := f.a.Fill(f.ctx(), key, token, []byte("value"), ttl, l.Epoch, []byte("filled"))
		requireOOM(t, err)
		require.False(t, stored)
		f.requireNothing(f.a)
		f.requireLease(f.a, token, ttl)
		require.Empty(t, ears.heard())
		require.NoError(t, f.a.Release(f.ctx(), key, token, []byte("failed")))
		require.Equal(t, []string{"waiter-" + f.keys.parts[0].prefix + " failed"}, ears.heard())
		require.False(t, f.exists(f.keys.Entry(key)))
	})
	t.Run("a fill that must be refused is, without an error", func(t *testing.T) {
		f, token, _, ears := start(t)
		f.fill(f.a, NewToken(), "value", ttl, 1, false)
		f.fill(f.a, token, "value", ttl, 1, false)
		require.Equal(t, []string{"waiter-" + f.keys.parts[0].prefix + " filled"}, ears.heard())
	})
	t.Run("no lease is given or renewed", func(t *testing.T) {
		f, token, _, _ := start(t)
		before := f.fields()
		_, err := f.a.Acquire(f.ctx(), key, NewToken(), Unwanted, ttl, "inbox")
		requireOOM(t, err)
		_, err = f.a.Acquire(f.ctx(), "another", NewToken(), Wanted, ttl, "inbox")
		requireOOM(t, err)
		_, err = f.a.Acquire(f.ctx(), key, NewToken(), Wanted, ttl, "inbox")
		requireOOM(t, err)
		mine, err := f.a.Renew(f.ctx(), key, token, time.Hour)
		requireOOM(t, err)
		require.False(t, mine)
		require.Equal(t, before, f.fields())
	})
	t.Run("a value that is there is still the answer", func(t *testing.T) {
		f, token, l, _ := start(t)
		full(t, f.rdb, false)
		f.fill(f.a, token, "value", ttl, l.Epoch, true)
		full(t, f.rdb, true)
		f.requireValue(f.a, "value")
		l, err := f.a.Acquire(f.ctx(), key, NewToken(), Wanted, ttl, "inbox")
		require.NoError(t, err)
		require.Equal(t, Found, l.Outcome)
	})
	t.Run("invalidations go through", func(t *testing.T) {
		f, token, l, ears := start(t)
		require.NoError(t, f.a.Invalidate(f.ctx(), []string{key}, []byte("inv")))
		require.False(t, f.exists(f.keys.Entry(key)))
		require.NoError(t, f.a.InvalidateAll(f.ctx(), only, []byte("all"))[0])
		require.NotEqual(t, EpochText(l.Epoch), f.epochInRedis())
		require.Equal(t, []string{f.channel() + " inv", f.channel() + " all"}, ears.heard())
		f.fill(f.a, token, "value", ttl, l.Epoch, false)
	})
	t.Run("invalidations by tag go through", func(t *testing.T) {
		rdb := newClient(t, srv.Addr())
		full(t, rdb, false)
		for _, lost := range []bool{false, true} {
			g := newTagging(t, rdb)
			g.store("v", "red")
			l := g.lease()
			if lost {
				g.del(g.counterKey())
			}
			full(t, rdb, true)
			g.invalidate("red", "unknown")
			g.invalidate("unknown")
			b, err := g.tagged.Get(g.ctx(), key)
			require.NoError(t, err)
			require.Nil(t, b)
			full(t, rdb, false)
			require.False(t, g.fillAs(l, "old", "red"))
			g.requirePayload("")
		}
	})
	t.Run("a fill with tags stores nothing", func(t *testing.T) {
		rdb := newClient(t, srv.Addr())
		full(t, rdb, false)
		g := newTagging(t, rdb)
		l := g.lease()
		full(t, rdb, true)
		_, err := g.tagged.FillWith(g.ctx(), Filling{
			Key: key, Token: l.Token, Envelope: g.envelope(key, "v", "red"), TTL: ttl, Epoch: 1, AsOf: l.AsOf,
		})
		requireOOM(t, err)
		full(t, rdb, false)
		g.requirePayload("")
	})
	t.Run("a Set invalidates", func(t *testing.T) {
		f, token, l, ears := start(t)
		// Whether it stores as well is Redis' business: a script that has written already may go on.
		_, err := f.a.Set(f.ctx(), key, []byte("new"), ttl, l.Epoch, f.now()+patience.Milliseconds(), []byte("inv"))
		require.NoError(t, err)
		require.Equal(t, []string{f.channel() + " inv"}, ears.heard())
		require.NotContains(t, f.fields(), f.a.field+leaseSuffix)
		f.fill(f.a, token, "value", ttl, l.Epoch, false)
	})
}

// A replica, or a master that was demoted, changes nothing.
func TestAReplicaRefusesEveryChange(t *testing.T) {
	t.Parallel()
	srv := redisserver.Run(t, redisserver.Options{})
	f := newFixture(t, newClient(t, srv.Addr()))
	f.put(f.a, "value", time.Hour)
	token := NewToken()
	l := f.refresh(f.a, token)
	ears := f.listen(f.channel(), "inbox")
	before := f.fields()
	require.NoError(t, f.rdb.Do(f.ctx(), "REPLICAOF", "127.0.0.1", "1").Err())

	readonly := func(err error) {
		t.Helper()
		require.Error(t, err)
		require.True(t, strings.HasPrefix(err.Error(), "READONLY"), err)
	}
	_, err := f.a.Acquire(f.ctx(), key, NewToken(), Unwanted, ttl, "inbox")
	readonly(err)
	_, err = f.a.Renew(f.ctx(), key, token, ttl)
	readonly(err)
	_, err = f.a.Fill(f.ctx(), key, token, []byte("new"), ttl, l.Epoch, []byte("filled"))
	readonly(err)
	readonly(f.a.Release(f.ctx(), key, token, []byte("failed")))
	_, err = f.a.Set(f.ctx(), key, []byte("new"), ttl, l.Epoch, f.now()+patience.Milliseconds(), []byte("inv"))
	readonly(err)
	readonly(f.a.Invalidate(f.ctx(), []string{key}, []byte("inv")))
	readonly(f.a.InvalidateAll(f.ctx(), only, []byte("all"))[0])
	readonly(f.a.InvalidateTags(f.ctx(), only, []string{"red"}, []byte("tags"))[0])

	require.Equal(t, before, f.fields())
	require.Empty(t, ears.heard(), "and says nothing")
	require.NoError(t, f.rdb.Do(f.ctx(), "REPLICAOF", "NO", "ONE").Err())
}

// Two calls of one holder whose first reply was lost, as a client sees it.
func TestAcquireCanBeRepeatedAfterALostReply(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	f := newFixture(t, newClient(t, m.Addr()))
	token := NewToken()
	f.acquire(f.a, token)
	l := f.acquire(f.a, token)
	f.fill(f.a, token, "value", ttl, l.Epoch, true)
	f.requireValue(f.a, "value")
}

func TestTTLsRun(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	f := newFixture(t, newClient(t, m.Addr()))
	f.put(f.a, "value", time.Minute)
	m.FastForward(59 * time.Second)
	f.requireValue(f.a, "value")
	m.FastForward(2 * time.Second)
	f.requireNothing(f.a)
	require.False(t, f.exists(f.keys.Entry(key)))
}

func TestErrorsOfEntriesAreDistinct(t *testing.T) {
	t.Parallel()
	all := []error{ErrForeign, ErrCorrupt, ErrSchema, ErrTooLarge, ErrWrongType, ErrKey, ErrName}
	for i, a := range all {
		for j, b := range all {
			require.Equal(t, i == j, errors.Is(a, b))
		}
	}
}
