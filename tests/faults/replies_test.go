package faults

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/redisserver"
	"github.com/tandemcache/tandem/tiered"
)

// errorReplies are Redis' own texts.
var errorReplies = []string{
	"LOADING Redis is loading the dataset in memory",
	"READONLY You can't write against a read only replica.",
	"OOM command not allowed when used memory > 'maxmemory'.",
	"NOAUTH Authentication required.",
	"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
	"NOPERM this user has no permissions to run the 'evalsha' command",
	"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
	"CLUSTERDOWN The cluster is down",
	"ERR something that no release says today",
}

// C5 and C6 where every command is answered with an error, also what makes a client retry, redirect or reconnect.
func TestErrorReplies(t *testing.T) {
	for _, text := range errorReplies {
		name, _, _ := strings.Cut(text, " ")
		t.Run(name, func(t *testing.T) {
			srv := startRedis(t)
			p := newProxy(t, srv.Addr())
			r := newSickness(t, p.addr())
			p.set(rule{answer: errorFor(text)}, control, data)
			r.suffer(t, isPending)
			p.heal()
			r.recover(t)
		})
	}
}

// errorFor answers commands and leaves the greeting to the server.
func errorFor(text string) func([]byte) *reply {
	return answerTo(reply{bytes: []byte("-" + text + "\r\n")}, "hget", "evalsha", "eval")
}

// illness is an error that a real server can be made to give.
type illness struct {
	name       string
	catch      func(t *testing.T, admin *redis.Client)
	heal       func(t *testing.T, admin *redis.Client)
	invalidate func(error) bool // what Invalidate may return meanwhile
}

func isPending(err error) bool { return errors.Is(err, tiered.ErrPending) }

func run(commands ...string) func(*testing.T, *redis.Client) {
	return func(t *testing.T, admin *redis.Client) {
		t.Helper()
		for _, command := range commands {
			var args []any
			for word := range strings.FieldsSeq(command) {
				args = append(args, strings.Trim(word, "'"))
			}
			require.NoError(t, admin.Do(soon(t), args...).Err(), command)
		}
	}
}

var illnesses = []illness{
	{"OOM", run("CONFIG SET maxmemory 1"), run("CONFIG SET maxmemory 0"), func(err error) bool { return err == nil }},
	{"NOPERM", run("ACL SETUSER default -@scripting"), run("ACL SETUSER default +@all"), isPending},
	{
		"NOAUTH", run("CONFIG SET requirepass secret", "CLIENT KILL TYPE normal", "CLIENT KILL TYPE pubsub"),
		run("ACL SETUSER default nopass"), isPending,
	},
	{"READONLY", run("REPLICAOF 127.0.0.1 1"), run("REPLICAOF NO ONE"), isPending},
	{
		"MASTERDOWN", run("CONFIG SET replica-serve-stale-data no", "REPLICAOF 127.0.0.1 1"), run("REPLICAOF NO ONE"),
		isPending,
	},
	{"NOREPLICAS", run("CONFIG SET min-replicas-to-write 1"), run("CONFIG SET min-replicas-to-write 0"), isPending},
	{"BUSY", busy, run("SCRIPT KILL"), isPending},
}

// busy starts a script that does not end.
func busy(t *testing.T, admin *redis.Client) {
	t.Helper()
	run("CONFIG SET busy-reply-threshold 20")(t, admin)
	hung := redis.NewClient(&redis.Options{
		Addr: admin.Options().Addr, Username: admin.Options().Username, Password: admin.Options().Password,
		ReadTimeout: -1, MaxRetries: -1,
	})
	t.Cleanup(func() { _ = hung.Close() })
	go func() { _ = hung.Eval(context.Background(), "while true do end", nil).Err() }()
	eventually(t, "BUSY", func() bool {
		err := admin.Ping(soon(t)).Err()
		return err != nil && strings.HasPrefix(err.Error(), "BUSY")
	})
}

// The same with a server that means it.
func TestARealServersErrors(t *testing.T) {
	for _, ill := range illnesses {
		t.Run(ill.name, func(t *testing.T) {
			srv := startRedis(t)
			admin := administrator(t, srv)
			r := newSickness(t, srv.Addr())
			ill.catch(t, admin)
			r.suffer(t, ill.invalidate)
			ill.heal(t, admin)
			r.recover(t)
		})
	}
}

// administrator returns a client with a user of its own, who keeps every right.
func administrator(t *testing.T, srv *redisserver.Server) *redis.Client {
	t.Helper()
	run("ACL SETUSER admin on >secret ~* &* +@all")(t, client(t, srv.Addr()))
	rdb := redis.NewClient(&redis.Options{Addr: srv.Addr(), Username: "admin", Password: "secret", MaxRetries: -1})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// sickness is two instances on a server that falls ill and recovers.
type sickness struct {
	*judge
	writer, other *cache
	stop          func()
	version       int64 // of the key "k"
	set           int64 // of the key "set"
	invalidated   error
}

func newSickness(t *testing.T, addr string) *sickness {
	t.Helper()
	const bound = 500 * time.Millisecond
	s := newSource(0)
	r := &sickness{judge: newJudge(s, bound), writer: ready(t, addr, s, staleness(bound)), other: ready(t, addr, s, staleness(bound))}
	for _, key := range []string{"k", "set"} {
		require.Zero(t, get(t, r.writer, key))
		require.Zero(t, get(t, r.other, key))
	}
	stopWriter := r.readers(1, r.writer, true, "k", "set")
	stopOther := r.readers(1, r.other, false, "k", "set")
	r.stop = func() { stopWriter(); stopOther() }
	t.Cleanup(r.stop)
	return r
}

// suffer reads and writes while the server is ill.
func (r *sickness) suffer(t *testing.T, expected func(error) bool) {
	t.Helper()
	worst, _ := readAtOnce(t, r.writer, "cold")
	require.Less(t, worst, tiered.DefaultRedisTimeout+slack)

	r.version = r.source.write("k")
	eventually(t, "what Invalidate is to return", func() bool {
		began := time.Now()
		r.invalidated = r.writer.Invalidate(context.Background(), "k")
		require.Less(t, time.Since(began), tiered.DefaultRedisTimeout+slack)
		r.acknowledge("k", r.version, r.invalidated)
		if expected(r.invalidated) {
			return true
		}
		require.ErrorIs(t, r.invalidated, tiered.ErrPending, "a busy machine, instead of nil")
		return false
	})
	require.Equal(t, r.version, get(t, r.writer, "k"), "C2")

	r.set = r.source.write("set")
	began := time.Now()
	err := r.writer.Set(context.Background(), "set", newValue("set", r.set))
	require.Less(t, time.Since(began), tiered.DefaultRedisTimeout+slack)
	if err != nil {
		require.ErrorIs(t, err, tiered.ErrPending)
	}
	r.acknowledge("set", r.set, err)
	require.Equal(t, r.set, get(t, r.writer, "set"), "C2")
	if r.invalidated != nil {
		require.Positive(t, r.writer.Health().PendingKeys)
	}
	time.Sleep(r.bound / 4) // the readers see the fault, and retries meet it
}

// recover waits for the end of it.
func (r *sickness) recover(t *testing.T) {
	t.Helper()
	healed := trusted(t, r.writer, r.other)
	began := time.Now()
	eventually(t, "the other instance has the writes", func() bool {
		return get(t, r.other, "k") == r.version && get(t, r.other, "set") == r.set
	})
	reached := time.Since(began)
	require.Less(t, reached, r.bound+slack)
	r.stop()
	t.Logf("Invalidate: %v; trusted %v after, the other instance up to date %v later; %s", r.invalidated, round(healed), round(reached), r.sentence())
	r.acquit(t)
}
