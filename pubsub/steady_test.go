package pubsub

import (
	"crypto/sha1"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/redisserver"
)

// runSteady runs steady.lua for an instance whose last heartbeat found before.
func (f *beatFixture) runSteady(before beatReply, keys ...string) (string, error) {
	f.Helper()
	args := []any{f.inbox, "message", sameServer(before.server.id), 1 + len(keys)}
	for _, s := range before.stored {
		args = append(args, s)
	}
	return steadyScript.Run(f.ctx(), f.rdb, append([]string{f.probe}, keys...), args...).Text()
}

func TestASteadyHeartbeat(t *testing.T) {
	t.Parallel()
	f, _ := serverFixture(t, redisserver.Options{})
	before := f.runAfter(origin{}, randomVersion, time.Hour, "v", "w")
	heard := f.listen()
	earliest, err := f.rdb.Time(f.ctx()).Result()
	require.NoError(t, err)

	answer, err := f.runSteady(before, "v", "w")
	require.NoError(t, err)
	now, offset, ok := parseSteady(answer)
	require.True(t, ok, answer)
	require.GreaterOrEqual(t, now, earliest.UnixMilli())
	require.Less(t, now, earliest.Add(patience).UnixMilli())
	require.EqualValues(t, 0, offset, "without a replica there is no stream")
	require.Equal(t, []string{"message"}, heard())

	replica, _ := serverFixture(t, redisserver.Options{})
	replica.replicate(f, f.rdb.Options().Addr)
	f.ask()
	before = f.runAfter(before.server, randomVersion, time.Hour, "v", "w")
	require.NoError(t, f.rdb.Set(f.ctx(), "other", "write", time.Hour).Err())
	answer, err = f.runSteady(before, "v", "w")
	require.NoError(t, err)
	_, offset, ok = parseSteady(answer)
	require.True(t, ok, answer)
	require.Greater(t, offset, before.server.offset, "what was written before a heartbeat is covered by what it sees")

	replica.ask()
	_, err = replica.runSteady(before, "v", "w")
	require.ErrorContains(t, err, "READONLY")
}

// Anything that is not as it was is for beat.lua, and a heartbeat that proves nothing must not be heard.
func TestAHeartbeatThatFindsSomethingElseIsSilent(t *testing.T) {
	t.Parallel()
	f, _ := serverFixture(t, redisserver.Options{})
	before := f.runAfter(origin{}, randomVersion, time.Hour, "v", "w")
	change := map[string]func(*beatReply){
		"another server":    func(b *beatReply) { b.server.id = strings.Repeat("0", 40) },
		"a server's prefix": func(b *beatReply) { b.server.id = b.server.id[:39] },
		"first version":     func(b *beatReply) { b.stored[0] = strings.Replace(b.stored[0], randomVersion, otherVersion, 1) },
		"last version":      func(b *beatReply) { b.stored[1] = strings.Replace(b.stored[1], randomVersion, otherVersion, 1) },
		"another note":      func(b *beatReply) { b.stored[1] += "0" },
	}
	for name, alter := range change {
		b := before
		b.stored = slices.Clone(before.stored)
		alter(&b)
		heard := f.listen()
		answer, err := f.runSteady(b, "v", "w")
		require.NoError(t, err, name)
		require.Empty(t, answer, name)
		require.Empty(t, heard(), name)
	}
	for name, command := range map[string][]any{
		"a key that is gone":    {"DEL", "w"},
		"another type":          {"HSET", "w", "f", "v"},
		"an InvalidateAll":      {"SET", "w", otherVersion + ":+"},
		"INFO is not permitted": {"ACL", "SETUSER", "default", "-info"},
	} {
		f.rdb.Del(f.ctx(), "w")
		require.NoError(t, f.rdb.Set(f.ctx(), "w", before.stored[1], time.Hour).Err())
		require.NoError(t, f.rdb.Do(f.ctx(), "ACL", "SETUSER", "default", "+@all").Err())
		if name == "another type" {
			f.rdb.Del(f.ctx(), "w")
		}
		require.NoError(t, f.rdb.Do(f.ctx(), command...).Err())
		heard := f.listen()
		answer, err := f.runSteady(before, "v", "w")
		require.NoError(t, err, name)
		require.Empty(t, answer, name)
		require.Empty(t, heard(), name)
	}
}

func TestWhetherAPartitionIsTheSame(t *testing.T) {
	t.Parallel()
	f, _ := serverFixture(t, redisserver.Options{})
	set := func() {
		f.rdb.Del(f.ctx(), "v", "w", "r", "s")
		f.rdb.Set(f.ctx(), "v", "1", 0)
		f.rdb.Set(f.ctx(), "w", "2", 0)
		f.rdb.HSet(f.ctx(), "r", "id", "a")
		f.rdb.HSet(f.ctx(), "s", "id", "b")
	}
	run := func(keys []string, args ...any) int {
		n, err := sameScript.Run(f.ctx(), f.rdb, append([]string{f.probe}, keys...), args...).Int()
		require.NoError(t, err)
		return n
	}
	all := func() int {
		l := ledger{names: names{probe: f.probe}}
		e := expectations{stored: []string{"1", "2"}, words: []string{"a", "b"}}
		keys := l.keys([]*member{{Topic: Topic{VersionKey: "v"}}, {Topic: Topic{VersionKey: "w"}}}, []string{"r", "s"})
		return run(keys[1:], e.args("id", 2)...)
	}
	set()
	require.Equal(t, 1, all())
	require.Equal(t, 1, run([]string{"v"}, 1, "1"), "without registries")
	require.Equal(t, 1, run(nil, 0))
	for _, change := range [][]any{
		{"SET", "v", "3"}, {"SET", "w", "20"}, {"DEL", "v"}, {"DEL", "w"}, {"RPUSH", "v2", "1"}, {"HSET", "r", "id", "b"},
		{"HDEL", "r", "id"}, {"HSET", "s", "id", "a"}, {"DEL", "s"}, {"SET", "s", "b"}, {"HSET", "r", "other", "x"},
	} {
		set()
		require.NoError(t, f.rdb.Do(f.ctx(), change...).Err())
		want := 0
		if change[1] == "v2" || (len(change) > 3 && change[2] == "other") {
			want = 1 // nothing that matters
		}
		require.Equal(t, want, all(), change)
	}
	set()
	require.NoError(t, f.rdb.ConfigSet(f.ctx(), "min-replicas-to-write", "1").Err())
	_, err := sameScript.Run(f.ctx(), f.rdb, []string{f.probe, "v"}, 1, "1").Int()
	require.ErrorContains(t, err, "NOREPLICAS", "it is a write")
}

func TestWhatASteadyHeartbeatExpects(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := &member{Topic: Topic{VersionTTL: time.Hour}}, &member{Topic: Topic{VersionTTL: 40 * time.Second}}
		var s steady
		_, ok := s.expects([]*member{a})
		require.False(t, ok, "before the first")
		s.learn([]*member{a, b}, []string{"va", "vb"})
		got, ok := s.expects([]*member{b, a})
		require.True(t, ok)
		require.Equal(t, []string{"vb", "va"}, got)
		got, ok = s.expects([]*member{a})
		require.True(t, ok, "one that has left")
		require.Equal(t, []string{"va"}, got)
		_, ok = s.expects([]*member{a, {}})
		require.False(t, ok, "one that has joined")
		time.Sleep(10*time.Second - 1)
		_, ok = s.expects([]*member{a, b})
		require.True(t, ok)
		time.Sleep(1)
		_, ok = s.expects([]*member{a, b})
		require.False(t, ok, "the TTL is due")

		s.learn([]*member{a}, []string{"va"})
		time.Sleep(maxSteady - 1)
		_, ok = s.expects([]*member{a})
		require.True(t, ok)
		time.Sleep(1)
		_, ok = s.expects([]*member{a})
		require.False(t, ok)

		s.learn([]*member{a}, []string{strings.Repeat("v", maxStored+1)})
		_, ok = s.expects([]*member{a})
		require.False(t, ok, "nothing that long is sent with each heartbeat")
		s.learn([]*member{a}, []string{"va"})
		s.forget()
		_, ok = s.expects([]*member{a})
		require.False(t, ok)
	})
}

func TestParseSteady(t *testing.T) {
	t.Parallel()
	now, offset, ok := parseSteady("1700000000 123456\nmaster_replid2:0000\r\nmaster_repl_offset:42\r\nsecond_repl_offset:-1\r\n")
	require.True(t, ok)
	require.EqualValues(t, 1700000000123, now)
	require.EqualValues(t, 42, offset)
	for _, bad := range []string{
		"", "1", "1 2", "1 2\n", "x 2\nmaster_repl_offset:42\r", "1 x\nmaster_repl_offset:42\r", "1 2\nmaster_repl_offset:x\r",
		"1 2\nmaster_repl_offset:42", "1 2\nmaster_repl_offset:\r",
	} {
		_, _, ok := parseSteady(bad)
		require.False(t, ok, "%q", bad)
	}
}

// On a bus most heartbeats are steady, and what somebody else changes is in the report of the very next one.
func TestSteadyHeartbeatsOfABus(t *testing.T) {
	t.Parallel()
	f, srv := serverFixture(t, redisserver.Options{})
	r := newRigTo(t, srv.Addr)
	h, _ := r.joined("a", lasting)
	used := func() bool {
		r.bus.Kick()
		known, err := f.rdb.ScriptExists(f.ctx(), steadyHash()).Result()
		return err == nil && known[0]
	}
	eventually(t, "a steady heartbeat", used)
	require.NoError(t, f.rdb.ScriptFlush(f.ctx()).Err())
	eventually(t, "another one", used)

	key := "version-of-a"
	first := h.latest().Version
	require.NoError(t, f.rdb.Set(f.ctx(), key, otherVersion+":+", time.Hour).Err())
	after := len(h.reports())
	another := func() bool { // after one that may have been on its way
		r.bus.Kick()
		return len(h.reports()) > after+1
	}
	eventually(t, "a heartbeat", another)
	require.NotEqual(t, first, h.reports()[after+1].Version)
	require.Equal(t, otherVersion, h.reports()[after+1].Version)

	require.NoError(t, f.rdb.Del(f.ctx(), key).Err())
	after = len(h.reports())
	eventually(t, "a heartbeat", another)
	require.NotEqual(t, otherVersion, h.reports()[after+1].Version)
	require.Len(t, h.reports()[after+1].Version, versionLen)
	for _, b := range h.reports() {
		require.False(t, b.Moved)
		require.False(t, b.Kept)
	}
	require.Greater(t, f.rdb.PTTL(f.ctx(), key).Val(), 50*time.Minute)
}

func steadyHash() string { return hashOf(steadySource) }

func hashOf(source string) string {
	sum := sha1.Sum([]byte(source))
	return hex.EncodeToString(sum[:])
}
