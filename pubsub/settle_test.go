package pubsub

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
)

// registry is where the members of these tests register.
const registry = "registry-of-a"

func registeredTopic(h Handler) Topic {
	t := topic("a", bound, h)
	t.Registry = registry
	return t
}

// member is a bus of its own with one member of topic a.
type settler struct {
	*rig
	*recorder
	topic Topic
	leave func()
}

// settlers are n buses on one miniredis, registered and long enough to answer early.
func settlers(t *testing.T, n int) []*settler {
	t.Helper()
	first := newRigInBubble(t)
	var all []*settler
	for i := range n {
		r := first
		if i > 0 {
			r = newRigAt(t, "127.0.0.1:1", &wire{dial: func(context.Context, string, string) (net.Conn, error) { return first.mini.Dial() }})
			r.mini = first.mini
		}
		all = append(all, r.settler())
	}
	time.Sleep(bound + settleMargin)
	synctest.Wait()
	return all
}

func (r *rig) settler() *settler {
	r.Helper()
	s := &settler{rig: r, recorder: r.recorder()}
	s.topic = registeredTopic(s.recorder)
	leave, err := r.bus.Join(s.topic)
	require.NoError(r, err)
	s.leave = leave
	synctest.Wait()
	require.True(r, s.proven())
	return s
}

// settle returns how long Settle takes.
func (s *settler) settle() time.Duration {
	s.rig.Helper()
	took := <-s.settleAsync()
	synctest.Wait() // what goes on in the background
	return took
}

func (s *settler) settleAsync() <-chan time.Duration {
	done := make(chan time.Duration, 1)
	go func() {
		began := time.Now()
		if err := s.bus.Settle(s.rig.Context(), s.topic, bound/4); err != nil {
			s.rig.Error(err)
		}
		done <- time.Since(began)
	}()
	return done
}

func (s *settler) field() string {
	return s.mini.HGet(registry, s.bus.ID())
}

// lastProof is how long ago the last proof was sent.
func (s *settler) lastProof() time.Duration {
	s.rig.Helper()
	proofs := s.of("prove")
	require.NotEmpty(s.rig, proofs)
	return time.Duration(mono.Now() - proofs[len(proofs)-1].at)
}

const whole = bound + settleMargin

func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := settlers(t, 3)
		for _, s := range all {
			require.Zero(t, s.settle(), "all acknowledge at once")
		}
	})
}

func TestSettleWithoutARegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := settlers(t, 1)[0]
		plain := s.topic
		plain.Registry = ""
		began := time.Now()
		require.NoError(t, s.bus.Settle(t.Context(), plain, time.Second))
		require.Equal(t, whole, time.Since(began))
	})
}

// Others may have been registered before, and lost with the registry.
func TestSettleSoonAfterRegistering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRigInBubble(t)
		s := r.settler()
		time.Sleep(bound / 4)
		require.Equal(t, whole-bound/4, s.settle())
		require.Zero(t, s.settle())
	})
}

// The registry is lost: by Redis' eviction, or with a restart that nobody notices.
func TestSettleAfterTheRegistryWasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := settlers(t, 2)
		asker, deaf := all[0], all[1]
		deaf.wire.subscription().vanish()
		require.True(t, deaf.mini.Del(registry))
		asker.wire.subscription().vanish() // or it would be a stranger to itself
		lost := deaf.lastProof()
		require.GreaterOrEqual(t, asker.settle(), bound-lost, "before its next heartbeat")

		time.Sleep(3 * bound) // the deaf ones are back
		deaf.onlyHears()
		require.True(t, deaf.mini.Del(registry))
		deaf.wire.subscription().vanish()
		asker.bus.Kick()
		synctest.Wait()
		require.NotEmpty(t, asker.field(), "registered anew")
		require.Empty(t, deaf.field())
		lost = deaf.lastProof()
		require.GreaterOrEqual(t, asker.settle(), bound-lost, "after it")
	})
}

// onlyHears lets no further heartbeat of s reach Redis.
func (s *settler) onlyHears() {
	s.wire.onWrite.Store(new(func(c *wireConn, _ []byte) {
		if !c.subscribed.Load() {
			c.vanish()
		}
	}))
}

// PUBLISH does not count one whose subscription Redis has given up; that one may not know, and serves on.
func TestSettleWaitsForOneThatDoesNotHear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := settlers(t, 3)
		asker, deaf := all[0], all[2]
		deaf.wire.subscription().vanish()
		deaf.onlyHears()
		synctest.Wait()
		require.Equal(t, 2, deaf.mini.PubSubNumSub("a")["a"])
		require.Equal(t, whole, asker.settle())
		require.Contains(t, deaf.field(), "-", "it is marked")
		left := asker.settle()
		require.LessOrEqual(t, left, bound/latePart+2*settleMargin, "until the mark is a Bound old")
		require.Positive(t, left)
		require.Zero(t, asker.settle(), "a crash costs no more than that")
		require.Empty(t, deaf.field())
	})
}

// The interleaving at Bus.mark.
func TestAMarkSaysWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := settlers(t, 3)
		first, second, x := all[0], all[1], all[2]
		x.bus.Kick()
		synctest.Wait()
		x.onlyHears()
		x.wire.subscription().vanish() // 1
		done := first.settleAsync()    // 2
		time.Sleep(bound/latePart + time.Millisecond)
		synctest.Wait()
		require.Contains(t, x.field(), "-")
		servesFor := bound - x.lastProof()
		require.Greater(t, servesFor, bound/2)
		require.Greater(t, second.settle(), servesFor) // 3
		require.Equal(t, whole, <-done)
		require.Zero(t, second.settle())
	})
}

// One that lives is registered again by its next heartbeat.
func TestAMarkOfOneThatLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := settlers(t, 2)
		asker, x := all[0], all[1]
		word := x.field()
		asker.bus.forum().mark(registry, []registered{{x.bus.ID(), "another word"}})
		synctest.Wait()
		require.Equal(t, word, x.field(), "it has registered since")
		asker.bus.forum().mark(registry, []registered{{x.bus.ID(), word}})
		synctest.Wait()
		require.Contains(t, x.field(), "-")
		time.Sleep(2 * beatEvery)
		synctest.Wait()
		require.NotContains(t, x.field(), "-")
		require.Zero(t, asker.settle())
	})
}

func TestWhoResignsIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := settlers(t, 2)
		asker, goes := all[0], all[1]
		other, err := goes.bus.Join(goes.topic)
		require.NoError(t, err)
		goes.leave()
		goes.bus.Resign(t.Context(), registry)
		require.NotEmpty(t, goes.field(), "another member is left")
		other()
		goes.bus.Resign(t.Context(), registry)
		require.Empty(t, goes.field())
		time.Sleep(bound)
		synctest.Wait()
		require.Empty(t, goes.field(), "its heartbeats do not register it again")
		require.Zero(t, asker.settle())
	})
}

// A release that does not acknowledge, or anybody else who listens.
func TestSettleWaitsForAnOlderRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := settlers(t, 1)[0]
		ps := s.mini.NewSubscriber()
		ps.Subscribe("a")
		go func() {
			for range ps.Messages() {
			}
		}()
		require.Equal(t, whole, s.settle())
		require.Equal(t, whole, s.settle(), "each time")
		ps.Unsubscribe("a")
		ps.Close()
		require.Zero(t, s.settle())
	})
}

func TestSettleEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := settlers(t, 2)
		asker, deaf := all[0], all[1]
		deaf.wire.subscription().vanish()
		word := deaf.field()
		ctx, cancel := context.WithTimeout(t.Context(), bound/10)
		defer cancel()
		require.ErrorIs(t, asker.bus.Settle(ctx, asker.topic, time.Second), context.DeadlineExceeded)
		synctest.Wait()
		require.Equal(t, word, deaf.field(), "it was not waited for long enough to give it up")
		done := make(chan error, 1)
		go func() { done <- asker.bus.Settle(t.Context(), asker.topic, time.Second) }()
		synctest.Wait()
		asker.bus.Stop()
		require.ErrorIs(t, <-done, ErrClosed)
		require.Empty(t, asker.bus.questions.open)
	})
}

// Redis does not answer, or not what it should.
func TestSettleWithoutAnAnswer(t *testing.T) {
	for name, answer := range map[string]func(p *server.Peer){
		"an error":       func(p *server.Peer) { p.WriteError("ERR no") },
		"another type":   func(p *server.Peer) { p.WriteInt(1) },
		"too short":      func(p *server.Peer) { p.WriteLen(1); p.WriteInt(1) },
		"no number":      func(p *server.Peer) { p.WriteLen(2); p.WriteBulk("x"); p.WriteInt(1) },
		"no instance":    func(p *server.Peer) { p.WriteLen(4); p.WriteInt(0); p.WriteInt(0); p.WriteBulk("x"); p.WriteInt(1) },
		"half instances": func(p *server.Peer) { p.WriteLen(3); p.WriteInt(0); p.WriteInt(0); p.WriteBulk("x") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := settlers(t, 1)[0]
				s.onCommand(func(p *server.Peer, cmd string, args []string) bool {
					if cmd != "EVALSHA" || args[0] != hashOf(askSource) {
						return false
					}
					answer(p)
					return true
				})
				require.Equal(t, whole, s.settle())
			})
		})
	}
}

// A heartbeat that was sent before a member joined has not registered it, so it is no proof for that one.
func TestAHeartbeatFromBeforeAMemberJoinedIsNoProofForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRigInBubble(t)
		h, _ := r.begun("other", bound)
		gate, held := make(chan struct{}), atomic.Bool{}
		r.onCommand(func(_ *server.Peer, cmd string, args []string) bool {
			if cmd == "EVALSHA" && len(args) > 2 && args[2] == r.bus.probe && held.CompareAndSwap(false, true) {
				<-gate
			}
			return false
		})
		time.Sleep(beatEvery / 2)
		r.bus.Kick()
		synctest.Wait()
		require.True(t, held.Load())
		time.Sleep(time.Millisecond)
		joined := mono.Now()
		s := &settler{rig: r, recorder: r.recorder()}
		_, err := r.bus.Join(registeredTopic(s.recorder))
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, 1, s.count("begin"))
		close(gate)
		before := h.count("prove")
		r.within(bound, "proofs", func() bool { return h.count("prove") > before+1 && s.proven() })
		require.GreaterOrEqual(t, s.of("prove")[0].at, joined)
		require.NotEmpty(t, s.field())
	})
}

// registrySpecs are what the scripts do with a registry.
var registrySpecs = []beatSpec{
	{"a heartbeat registers once", func(f *beatFixture) {
		key := f.key("registry")
		require.False(f, f.register(key, "", "w1"))
		require.True(f, f.register(key, "w1", "w2"))
		require.Equal(f, map[string]string{"me": "w1"}, f.rdb.HGetAll(f.ctx(), key).Val())
		f.requireTTL(key, time.Hour)
		require.False(f, f.register(key, "w2", "w3"), "another word than it knows of")
		require.Equal(f, "w3", f.rdb.HGet(f.ctx(), key, "me").Val())
	}},
	{"a heartbeat replaces a mark, and another type", func(f *beatFixture) {
		key := f.key("registry")
		f.register(key, "", "w1")
		require.EqualValues(f, 1, f.mark(key, "me", "w1", "you", "w1"))
		require.Regexp(f, `^-\d{13}$`, f.rdb.HGet(f.ctx(), key, "me").Val())
		require.False(f, f.register(key, "w1", "w2"))
		require.NoError(f, f.rdb.Set(f.ctx(), key, "x", 0).Err())
		require.False(f, f.register(key, "w2", "w3"))
		require.Equal(f, "w3", f.rdb.HGet(f.ctx(), key, "me").Val())
	}},
	{"a registry of the dead begins anew", func(f *beatFixture) {
		key := f.key("registry")
		pairs := make([]any, 0, 4000)
		for i := range 2000 {
			pairs = append(pairs, fmt.Sprint(i), "w")
		}
		require.NoError(f, f.rdb.HSet(f.ctx(), key, pairs...).Err())
		require.False(f, f.register(key, "", "w1"))
		require.EqualValues(f, 1, f.rdb.HLen(f.ctx(), key).Val())
		require.True(f, f.register(key, "w1", "w2"))
	}},
	{"who asks is told of all", func(f *beatFixture) {
		key := f.key("registry")
		require.Empty(f, f.askFor(key, "w"), "not registered")
		f.register(key, "", "w")
		require.NoError(f, f.rdb.HSet(f.ctx(), key, "you", "v").Err())
		heard := f.listen()
		require.Empty(f, f.askFor(key, "another word"))
		if server := f.server; server != "" {
			f.server = "0" + server[1:]
			if server[0] == '0' {
				f.server = "1" + server[1:]
			}
			require.Empty(f, f.askFor(key, "w"), "another server")
			f.server = server
		}
		require.Empty(f, heard(), "and nobody is asked")
		heard = f.listen()
		raw := f.askFor(key, "w")
		require.EqualValues(f, 2, raw[0], "both who listen, and are nobody's")
		require.EqualValues(f, -1, raw[1], "nobody is marked")
		require.ElementsMatch(f, []any{"me", "w", "you", "v"}, raw[2:])
		require.Len(f, heard(), 1)
	}},
	{"who is known is no stranger", func(f *beatFixture) {
		key := f.key("registry")
		f.register(key, "", "w")
		require.NoError(f, f.rdb.HSet(f.ctx(), key, "gone", "-1").Err())
		ps := f.rdb.Subscribe(f.ctx(), f.inbox, f.probe+"me:inbox")
		defer ps.Close()
		gone := f.rdb.Subscribe(f.ctx(), f.inbox, f.probe+"gone:inbox")
		defer gone.Close()
		for range 2 {
			for _, one := range []*redis.PubSub{ps, gone} {
				_, err := one.Receive(f.ctx())
				require.NoError(f, err)
			}
		}
		go func() { // a miniredis waits for who hears
			for range ps.Channel() {
			}
		}()
		go func() {
			for range gone.Channel() {
			}
		}()
		raw := f.askFor(key, "w")
		require.Zero(f, raw[0])
		require.Negative(f, raw[1])
		require.True(f, f.rdb.HExists(f.ctx(), key, "gone").Val(), "as long as it is subscribed")
		require.NoError(f, gone.Close())
		require.Eventually(f, func() bool {
			f.askFor(key, "w")
			return !f.rdb.HExists(f.ctx(), key, "gone").Val()
		}, patience, time.Millisecond)
	}},
	{"a mark counts for a bound", func(f *beatFixture) {
		key := f.key("registry")
		f.register(key, "", "w")
		now, err := f.rdb.Time(f.ctx()).Result()
		require.NoError(f, err)
		old, fresh, ahead := now.Add(-2*time.Minute), now.Add(-30*time.Second), now.Add(time.Hour)
		for id, at := range map[string]time.Time{"old": old, "fresh": fresh, "ahead": ahead} {
			require.NoError(f, f.rdb.HSet(f.ctx(), key, id, fmt.Sprint("-", at.UnixMilli())).Err())
		}
		raw := f.askFor(key, "w")
		require.Equal(f, []any{"me", "w"}, raw[2:])
		require.EqualValues(f, time.Minute.Milliseconds(), raw[1], "the clock was set back: a bound from now")
		require.NoError(f, f.rdb.HDel(f.ctx(), key, "ahead").Err())
		left := f.askFor(key, "w")[1].(int64)
		require.LessOrEqual(f, left, int64(30_000))
		require.Greater(f, left, int64(30_000)-patience.Milliseconds())
		require.False(f, f.rdb.HExists(f.ctx(), key, "old").Val())
	}},
}

func (f *beatFixture) register(key, held, word string) (there bool) {
	f.Helper()
	raw, err := beatScript.Run(f.ctx(), f.rdb, []string{f.probe, f.key("version"), key}, f.inbox, "message", randomVersion,
		time.Hour.Milliseconds(), f.server, 0, "", 0, "all", 1, "channel", "me", word, held).Slice()
	require.NoError(f, err)
	reply, err := parseBeat(raw, 1, []string{key})
	require.NoError(f, err)
	return len(reply.entered) == 0
}

func (f *beatFixture) mark(key string, pairs ...any) int64 {
	f.Helper()
	n, err := markScript.Run(f.ctx(), f.rdb, []string{f.probe, key}, pairs...).Int64()
	require.NoError(f, err)
	return n
}

func (f *beatFixture) askFor(key, word string) []any {
	f.Helper()
	server := ""
	if f.server != "" {
		server = sameServer(f.server)
	}
	raw, err := askScript.Run(f.ctx(), f.rdb, []string{f.probe, key}, f.inbox, "message", "me", word, server,
		time.Minute.Milliseconds(), f.probe, ":inbox").Slice()
	require.NoError(f, err)
	return raw
}
