package pubsub

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/tests/redisserver"
)

func TestRegisters(t *testing.T) {
	t.Parallel()
	var r registers
	report := func(at int64, moved bool, err error) BeatReport {
		return BeatReport{Received: at, Moved: moved, Err: err}
	}
	reply := func(server, word string, entered ...string) beatReply {
		return beatReply{server: origin{id: server}, word: word, entered: entered}
	}
	_, _, ok := r.current("a")
	require.False(t, ok, "before the first")
	r.note(reply("s1", "w1", "a", "b"), report(1, false, nil))
	r.note(reply("s1", "w2"), report(2, false, nil))
	one, server, ok := r.current("a")
	require.True(t, ok)
	require.Equal(t, register{"w1", 1}, one, "it was there at the second")
	require.Equal(t, "s1", server)

	r.note(reply("s1", "w3", "b"), report(3, false, nil))
	one, _, _ = r.current("a")
	require.Equal(t, register{"w1", 1}, one)
	one, _, _ = r.current("b")
	require.Equal(t, register{"w3", 3}, one)

	r.note(beatReply{}, report(4, false, errors.New("away")))
	_, _, ok = r.current("a")
	require.False(t, ok, "what the server is like nobody knows")
	one, ok = r.find("a")
	require.True(t, ok)
	require.Equal(t, register{"w1", 1}, one)

	r.note(reply("s1", "w4"), report(5, false, nil))
	one, _, ok = r.current("a")
	require.True(t, ok)
	require.Equal(t, register{"w1", 1}, one, "it was there all the time")

	r.note(reply("s2", "w5", "b"), report(6, true, nil))
	one, server, _ = r.current("a")
	require.Equal(t, register{"w1", 6}, one, "on a server that may lack others")
	require.Equal(t, "s2", server)
	one, _, _ = r.current("b")
	require.Equal(t, register{"w5", 6}, one)

	require.True(t, r.remove("a"))
	require.False(t, r.remove("a"))
	_, ok = r.find("a")
	require.False(t, ok)
}

// On Redis itself most heartbeats are by steady.lua.
func TestSteadyHeartbeatsRegister(t *testing.T) {
	t.Parallel()
	f, srv := serverFixture(t, redisserver.Options{})
	r := newRigTo(t, srv.Addr)
	h := r.recorder()
	topic := registeredTopic(h)
	topic.Bound = lasting
	_, err := r.bus.Join(topic)
	require.NoError(t, err)
	eventually(t, "a proof", h.proven)
	field := func() string { return f.rdb.HGet(f.ctx(), registry, r.bus.ID()).Val() }
	word := field()
	require.NotEmpty(t, word)
	steady := func() {
		t.Helper()
		require.NoError(t, f.rdb.ScriptFlush(f.ctx()).Err())
		eventually(t, "a steady heartbeat", func() bool {
			r.bus.Kick()
			known, err := f.rdb.ScriptExists(f.ctx(), steadyHash()).Result()
			return err == nil && known[0]
		})
	}
	steady()
	require.Equal(t, word, field(), "it was there")
	for name, spoil := range map[string]func() error{
		"taken out":    func() error { return f.rdb.HDel(f.ctx(), registry, r.bus.ID()).Err() },
		"marked":       func() error { return f.rdb.HSet(f.ctx(), registry, r.bus.ID(), "-1").Err() },
		"lost":         func() error { return f.rdb.Del(f.ctx(), registry).Err() },
		"another type": func() error { return f.rdb.Set(f.ctx(), registry, "x", 0).Err() },
	} {
		steady()
		old := field()
		require.NoError(t, spoil(), name)
		spoiled := mono.Now()
		eventually(t, name+": a proof of later", func() bool {
			r.bus.Kick()
			all := h.of("prove")
			return all[len(all)-1].at > spoiled
		})
		require.Len(t, field(), 16, name)
		require.NotEqual(t, old, field(), name)
	}
	require.Zero(t, h.count("end"))
}

// A full Redis does not keep an instance from registering, nor anybody from asking or marking.
func TestOnRedisAFullServerRegisters(t *testing.T) {
	t.Parallel()
	r, _, rdb := newRigOnServer(t, redisserver.Options{Args: []string{"--maxmemory-policy", "noeviction"}})
	require.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory", "1").Err())
	require.ErrorContains(t, rdb.HSet(t.Context(), "x", "y", "z").Err(), "OOM")
	h := r.recorder()
	topic := registeredTopic(h)
	topic.Bound = time.Second
	_, err := r.bus.Join(topic)
	require.NoError(t, err)
	eventually(t, "a proof", h.proven)
	word := func() string { return rdb.HGet(t.Context(), registry, r.bus.ID()).Val() }
	require.Len(t, word(), 16)
	eventually(t, "it answers early", func() bool {
		began := time.Now()
		require.NoError(t, r.bus.Settle(t.Context(), topic, patience))
		return time.Since(began) < topic.Bound/4
	})
	eventually(t, "marked", func() bool { // a heartbeat may come between
		n, err := markScript.Run(t.Context(), rdb, []string{r.bus.probe, registry}, r.bus.ID(), word()).Int()
		require.NoError(t, err)
		return n == 1
	})
}
