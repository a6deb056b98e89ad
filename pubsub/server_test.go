package pubsub

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/redisserver"
)

// newRigOnServer is a bus on a real Redis, with a client to do something to that.
func newRigOnServer(t *testing.T, opt redisserver.Options) (*rig, *redisserver.Server, *redis.Client) {
	t.Helper()
	srv := redisserver.Run(t, opt)
	return newRigOn(t, srv.Addr()), srv, srv.Client()
}

func say(t *testing.T, rdb *redis.Client, channel string, m Message) {
	t.Helper()
	require.NoError(t, rdb.Publish(context.Background(), channel, m.Encode()).Err())
}

// latest returns the last report.
func (r *recorder) latest() BeatReport {
	all := r.reports()
	if len(all) == 0 {
		return BeatReport{}
	}
	return all[len(all)-1]
}

func TestOnRedisMembersBeginHaveProofAndHear(t *testing.T) {
	t.Parallel()
	r, _, rdb := newRigOnServer(t, redisserver.Options{})
	a, _ := r.joined("a", lasting)
	b, leave := r.joined("b", lasting)
	say(t, rdb, "a", inv("1"))
	say(t, rdb, "b", inv("2"))
	eventually(t, "both", func() bool { return a.count("message") == 1 && b.count("message") == 1 })
	for range 20 { // and in quick succession
		leave()
		b, leave = r.join("b", lasting)
	}
	eventually(t, "a proof", b.proven)
	say(t, rdb, "b", inv("3"))
	eventually(t, "a message", func() bool { return b.count("message") == 1 })
	leave()
	eventually(t, "unsubscribed", func() bool { return rdb.PubSubNumSub(t.Context(), "b").Val()["b"] == 0 })
	require.Equal(t, "begin inv(1)", a.plot())
	require.EqualValues(t, 1, r.bus.Sessions())
}

func TestOnRedisASubscriptionThatIsKilled(t *testing.T) {
	t.Parallel()
	r, _, rdb := newRigOnServer(t, redisserver.Options{})
	h, _ := r.joined("a", lasting)
	for i := range 5 {
		require.EqualValues(t, 1, rdb.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Val())
		eventually(t, "the end", func() bool { return h.count("end") == i+1 })
		eventually(t, "a proof", h.proven)
		say(t, rdb, "a", inv(fmt.Sprint(i)))
		eventually(t, "a message", func() bool { return h.count("message") == i+1 })
	}
	require.EqualValues(t, 6, r.bus.Sessions())
	h.checkProofs()
}

// Redis gives up a subscriber that does not keep up, which loses what it had not read.
func TestOnRedisASubscriberThatIsTooSlow(t *testing.T) {
	t.Parallel()
	r, _, rdb := newRigOnServer(t, redisserver.Options{})
	require.NoError(t, rdb.ConfigSet(t.Context(), "client-output-buffer-limit", "pubsub 256kb 0 0").Err())
	h, _ := r.joined("a", lasting)
	letGo := r.wire.subscription().holdReads()
	big := Message{Op: Invalidate, Sender: "s", Keys: slicesRepeat(strings.Repeat("k", MaxKeyBytes), 50)}
	eventually(t, "Redis has lost its patience", func() bool {
		say(t, rdb, "a", big)
		return rdb.PubSubNumSub(t.Context(), "a").Val()["a"] == 0
	})
	letGo()
	eventually(t, "the end", func() bool { return h.count("end") == 1 })
	eventually(t, "a proof", h.proven)
}

func TestOnRedisAServerThatCrashesAndComesBack(t *testing.T) {
	t.Parallel()
	r, srv, rdb := newRigOnServer(t, redisserver.Options{})
	h, _ := r.joined("a", lasting)
	first := h.latest().Version
	for i := range 3 {
		require.NoError(t, srv.Kill())
		eventually(t, "the end", func() bool { return h.count("end") == i+1 })
		eventually(t, "failed heartbeats", func() bool {
			r.bus.Kick()
			return h.latest().Err != nil
		})
		require.NoError(t, srv.Restart())
		eventually(t, "a proof", h.proven)
		eventually(t, "a heartbeat", func() bool { return h.latest().Err == nil })
		require.NotEqual(t, first, h.latest().Version, "it has kept nothing")
		eventually(t, "a message", func() bool { // the client that publishes has to find the server again, too
			_ = rdb.Publish(t.Context(), "a", inv("k").Encode()).Err()
			return h.count("message") > i
		})
	}
	h.checkProofs()
}

// A process that stands still answers nothing and closes nothing.
func TestOnRedisAServerThatStandsStill(t *testing.T) {
	t.Parallel()
	const bound = 7 * time.Second // of which two are left when it has been silent for too long
	r, srv, _ := newRigOnServer(t, redisserver.Options{})
	h, _ := r.joined("a", bound)
	ends := h.count("end")
	require.NoError(t, srv.Pause())
	paused := time.Now()
	eventually(t, "the end", func() bool { return h.count("end") > ends })
	require.Less(t, time.Since(paused), bound)
	eventually(t, "a failed heartbeat", func() bool { return h.latest().Err != nil })
	require.NoError(t, srv.Resume())
	eventually(t, "a proof", h.proven)
	h.checkProofs()
}

func TestOnRedisADemotedMasterProvesNothing(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		demote, restore []any
		says            string
	}{
		"a replica": {[]any{"REPLICAOF", "127.0.0.1", "1"}, []any{"REPLICAOF", "NO", "ONE"}, "READONLY"},
		"an isolated master": {
			[]any{"CONFIG", "SET", "min-replicas-to-write", "1"}, []any{"CONFIG", "SET", "min-replicas-to-write", "0"}, "NOREPLICAS",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _, rdb := newRigOnServer(t, redisserver.Options{})
			h, _ := r.joined("a", lasting)
			require.NoError(t, rdb.Do(t.Context(), tc.demote...).Err())
			eventually(t, "a refusal", func() bool {
				r.bus.Kick()
				return h.latest().Err != nil
			})
			require.True(t, strings.HasPrefix(h.latest().Err.Error(), tc.says), h.latest().Err)
			// A heartbeat from before may still be on its way; it is before what is published now.
			require.NoError(t, rdb.Publish(t.Context(), "a", inv("mark").Encode()).Err(), "an ordinary PUBLISH is not refused")
			eventually(t, "the mark", func() bool { return h.count("message") == 1 })
			proofs, refused := h.count("prove"), len(h.reports())
			eventually(t, "more of them", func() bool {
				r.bus.Kick()
				return len(h.reports()) > refused+3
			})
			say(t, rdb, "a", inv("k"))
			eventually(t, "a message", func() bool { return h.count("message") == 2 })
			require.Equal(t, proofs, h.count("prove"))
			require.Zero(t, h.count("end"))
			require.NoError(t, rdb.Do(t.Context(), tc.restore...).Err())
			eventually(t, "a proof", func() bool {
				r.bus.Kick()
				return h.count("prove") > proofs
			})
		})
	}
}

// A Redis that is full is no reason to do without L1; not even where the version has to be made anew.
func TestOnRedisAFullServerGoesOnProving(t *testing.T) {
	t.Parallel()
	r, _, rdb := newRigOnServer(t, redisserver.Options{Args: []string{"--maxmemory-policy", "noeviction"}})
	h, _ := r.joined("a", lasting)
	require.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory", "1").Err())
	require.ErrorContains(t, rdb.Set(t.Context(), "x", "y", 0).Err(), "OOM")
	proofs, old := h.count("prove"), h.latest().Version
	more := func() {
		t.Helper()
		eventually(t, "a proof", func() bool {
			r.bus.Kick()
			return h.count("prove") > proofs+3
		})
		for _, b := range h.reports() {
			require.NoError(t, b.Err)
		}
	}
	more()
	require.NoError(t, rdb.Del(t.Context(), "version-of-a").Err())
	proofs = h.count("prove")
	more()
	require.NotEqual(t, old, h.latest().Version)
}

// documented returns the shell command of the package's documentation.
func documented(t *testing.T) string {
	t.Helper()
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	var lines []string
	for line := range strings.Lines(string(doc)) {
		line = strings.TrimSuffix(strings.TrimPrefix(line, "//"), "\n")
		if strings.HasPrefix(line, "\tredis-cli ") || len(lines) > 0 && strings.HasSuffix(lines[len(lines)-1], "\\") {
			lines = append(lines, strings.TrimPrefix(line, "\t"))
		}
	}
	require.NotEmpty(t, lines)
	return strings.Join(lines, "\n")
}

// The example of the package's documentation is what people of other languages start from.
func TestTheDocumentedInvalidationFromAShell(t *testing.T) {
	t.Parallel()
	const entry, channel = "tandem:{users}:k:42", "tandem:{users}:bus:0"
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skipf("%v: install a shell to run this test", err)
	}
	// prepare makes two instances that listen, and an entry with a lease.
	prepare := func(t *testing.T) (instances []*recorder, srv *redisserver.Server, rdb *redis.Client) {
		t.Helper()
		r, srv, rdb := newRigOnServer(t, redisserver.Options{})
		first, _ := r.joined(channel, lasting)
		second, _ := newRigOn(t, srv.Addr()).joined(channel, lasting)
		require.NoError(t, rdb.HSet(t.Context(), entry, "cbor.0000000000000001", "value", "cbor.0000000000000001.l", "lease").Err())
		return []*recorder{first, second}, srv, rdb
	}
	check := func(t *testing.T, instances []*recorder, rdb *redis.Client) {
		t.Helper()
		require.Zero(t, rdb.Exists(t.Context(), entry).Val(), "the entry is gone")
		for _, h := range instances {
			eventually(t, "heard", func() bool { return h.count("message") == 1 })
			require.Equal(t, Message{Op: Invalidate, Sender: "shell", Keys: []string{"42"}}, h.of("message")[0].m)
			require.Zero(t, h.count("unreadable"))
		}
	}
	t.Run("by redis-cli", func(t *testing.T) {
		t.Parallel()
		if _, err := exec.LookPath("redis-cli"); err != nil {
			t.Skipf("%v: install redis-cli to run this test", err)
		}
		instances, srv, rdb := prepare(t)
		_, port, _ := strings.Cut(srv.Addr(), ":")
		command := strings.Replace(documented(t), "redis-cli", "redis-cli -p "+port, 1)
		out, err := exec.CommandContext(t.Context(), shell, "-c", command).CombinedOutput()
		require.NoError(t, err, string(out))
		require.Equal(t, "2", strings.TrimSpace(strings.TrimPrefix(string(out), "(integer)")), "it answers the number of instances")
		check(t, instances, rdb)
	})
	t.Run("by the same command of a client", func(t *testing.T) {
		t.Parallel()
		instances, _, rdb := prepare(t)
		// The shell reads the quotes and prints the words, each with a zero at its end.
		command := strings.Replace(documented(t), "redis-cli", `printf '%s\0'`, 1)
		out, err := exec.CommandContext(t.Context(), shell, "-c", command).Output()
		require.NoError(t, err)
		var args []any
		for word := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
			args = append(args, word)
		}
		require.EqualValues(t, 2, rdb.Do(t.Context(), args...).Val())
		check(t, instances, rdb)
	})
}

// The messages in the package's documentation are messages.
func TestTheDocumentedMessagesAreRead(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	replace := strings.NewReplacer("<token>", strings.Repeat("0", 32), "<id>", strings.Repeat("a", idBytes), "17:<channel>", "17:tandem:{ab}:bus:0")
	n := 0
	for line := range strings.Lines(string(doc)) {
		text, ok := strings.CutPrefix(line, "//\ttandem/1 ")
		if !ok {
			continue
		}
		text, _, _ = strings.Cut(replace.Replace("tandem/1 "+strings.TrimSpace(text)), "  ")
		m, err := Parse(text)
		require.NoError(t, err, text)
		require.Equal(t, text, string(m.Encode()))
		n++
	}
	require.Equal(t, 7, n, "one of each operation")
}
