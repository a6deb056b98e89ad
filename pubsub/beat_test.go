package pubsub

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/lineage"
	"github.com/tandemcache/tandem/tests/redisserver"
)

// beatFixture is beat.lua on some server, with names that no other test uses.
type beatFixture struct {
	*testing.T
	rdb          *redis.Client
	probe, inbox string
	server       string        // its replication id, "" if it does not tell
	ago          time.Duration // how long ago the last heartbeat was sent; zero is a minute
}

func (f *beatFixture) ctx() context.Context {
	f.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	f.Cleanup(cancel)
	return ctx
}

func (f *beatFixture) key(name string) string { return f.probe + ":" + name }

// run runs the script, which must succeed, and returns the time and the versions that it answers.
func (f *beatFixture) run(random string, ttl time.Duration, versions ...string) (int64, []string) {
	f.Helper()
	reply := f.runAfter(origin{id: f.server}, random, ttl, versions...)
	require.Equal(f, f.server, reply.server.id)
	out := []string{}
	for _, v := range reply.versions {
		require.Negative(f, v.kept)
		out = append(out, v.text)
	}
	return reply.now, out
}

// runAfter runs the script for an instance whose last heartbeat was at before.
func (f *beatFixture) runAfter(before origin, random string, ttl time.Duration, versions ...string) beatReply {
	f.Helper()
	args := []any{f.inbox, "message", random, ttl.Milliseconds(), before.id, before.offset, before.run, f.since(), "all", len(versions)}
	for _, key := range versions {
		args = append(args, f.channel(key))
	}
	raw, err := beatScript.Run(f.ctx(), f.rdb, append([]string{f.probe}, versions...), args...).Slice()
	require.NoError(f, err)
	reply, err := parseBeat(raw, len(versions), nil)
	require.NoError(f, err)
	for i, v := range reply.versions {
		reply.versions[i].kept = made
		if v.kept >= 0 {
			reply.versions[i].kept = kept
		}
	}
	return reply
}

func (f *beatFixture) since() int64 {
	if f.ago == 0 {
		return time.Minute.Milliseconds()
	}
	return f.ago.Milliseconds()
}

func (f *beatFixture) channel(key string) string { return "channel-of-" + key }

// stored is a version that was made under the server as it is.
func (f *beatFixture) stored(version string) string { return version + ":" + f.server + "+" }

func (f *beatFixture) get(key string) string {
	f.Helper()
	v, err := f.rdb.Get(f.ctx(), key).Result()
	require.NoError(f, err)
	return strings.TrimRight(v, "0123456789") // without when it was made
}

// requireTTL requires that key has about this much left.
func (f *beatFixture) requireTTL(key string, want time.Duration) {
	f.Helper()
	left, err := f.rdb.PTTL(f.ctx(), key).Result()
	require.NoError(f, err)
	require.LessOrEqual(f, left, want)
	require.Greater(f, left, want-patience)
}

// listen returns a function that returns the messages published on the inbox since.
func (f *beatFixture) listen() (heard func() []string) {
	f.Helper()
	mark := f.key("mark")
	ps := f.rdb.Subscribe(f.ctx(), f.inbox, mark)
	f.Cleanup(func() { _ = ps.Close() })
	for range 2 {
		_, err := ps.Receive(f.ctx())
		require.NoError(f, err)
	}
	messages := ps.Channel(redis.WithChannelSize(1000)) // somebody has to read: a miniredis waits for it
	return func() []string {
		f.Helper()
		require.NoError(f, f.rdb.Publish(f.ctx(), mark, "").Err())
		out := []string{}
		for {
			select {
			case m := <-messages:
				if m.Channel == mark {
					return out
				}
				out = append(out, m.Payload)
			case <-time.After(patience):
				require.Fail(f, "a message that was published was not heard")
			}
		}
	}
}

type beatSpec struct {
	name string
	test func(f *beatFixture)
}

var beatSpecs = []beatSpec{
	{"tells the time and publishes the message once", func(f *beatFixture) {
		heard := f.listen()
		for range 3 {
			before, err := f.rdb.Time(f.ctx()).Result()
			require.NoError(f, err)
			now, versions := f.run("r", time.Hour)
			after, err := f.rdb.Time(f.ctx()).Result()
			require.NoError(f, err)
			require.GreaterOrEqual(f, now, before.UnixMilli())
			require.LessOrEqual(f, now, after.UnixMilli())
			require.Empty(f, versions)
			require.Equal(f, []string{"message"}, heard())
		}
		require.Zero(f, f.rdb.Exists(f.ctx(), f.probe).Val(), "the probe's key never exists")
	}},
	{"creates a version where there is none", func(f *beatFixture) {
		a, b := f.key("a"), f.key("b")
		_, versions := f.run(randomVersion, time.Hour, a, b)
		require.Equal(f, []string{randomVersion, randomVersion}, versions)
		for _, key := range []string{a, b} {
			require.Equal(f, f.stored(randomVersion), f.get(key))
			f.requireTTL(key, time.Hour)
		}
		_, versions = f.run(otherVersion, time.Hour, a, b)
		require.Equal(f, []string{randomVersion, randomVersion}, versions, "once")
		require.NoError(f, f.rdb.Del(f.ctx(), a).Err())
		_, versions = f.run(otherVersion, time.Hour, a, b)
		require.Equal(f, []string{otherVersion, randomVersion}, versions, "one that was lost is replaced by another")
	}},
	{"reports the versions in order and renews their TTLs", func(f *beatFixture) {
		var keys, want []string
		for i := range 20 {
			key, v := f.key(fmt.Sprint(i)), fmt.Sprintf("%016x", i)
			keys, want = append(keys, key), append(want, v)
			require.NoError(f, f.rdb.Set(f.ctx(), key, f.stored(v), 20*time.Second).Err())
		}
		_, versions := f.run(randomVersion, time.Hour, keys...)
		require.Equal(f, want, versions)
		for i, key := range keys {
			require.Equal(f, f.stored(want[i]), f.get(key))
			f.requireTTL(key, time.Hour)
		}
	}},
	{"gives a version without a TTL one", func(f *beatFixture) {
		key := f.key("a")
		require.NoError(f, f.rdb.Set(f.ctx(), key, f.stored("00000000000000ff"), 0).Err())
		_, versions := f.run(randomVersion, time.Hour, key)
		require.Equal(f, []string{"00000000000000ff"}, versions)
		f.requireTTL(key, time.Hour)
	}},
	{"replaces another Redis type", func(f *beatFixture) {
		key := f.key("a")
		for _, put := range []func() error{
			func() error { return f.rdb.RPush(f.ctx(), key, "x").Err() },
			func() error { return f.rdb.HSet(f.ctx(), key, "x", "y").Err() },
			func() error { return f.rdb.SAdd(f.ctx(), key, "x").Err() },
			func() error { return f.rdb.ZAdd(f.ctx(), key, redis.Z{Member: "x"}).Err() },
			func() error {
				return f.rdb.XAdd(f.ctx(), &redis.XAddArgs{Stream: key, Values: []string{"x", "y"}}).Err()
			},
		} {
			require.NoError(f, f.rdb.Del(f.ctx(), key).Err())
			require.NoError(f, put())
			_, versions := f.run(randomVersion, time.Hour, key)
			require.Equal(f, []string{randomVersion}, versions)
			require.Equal(f, f.stored(randomVersion), f.get(key))
			f.requireTTL(key, time.Hour)
		}
	}},
	{"the same version twice", func(f *beatFixture) {
		key := f.key("a")
		_, versions := f.run(randomVersion, time.Hour, key, key)
		require.Equal(f, []string{randomVersion, randomVersion}, versions)
	}},
	{"a stray value under the probe's key is no matter", func(f *beatFixture) {
		require.NoError(f, f.rdb.HSet(f.ctx(), f.probe, "x", "y").Err())
		f.run(randomVersion, time.Hour)
		require.Zero(f, f.rdb.Exists(f.ctx(), f.probe).Val())
	}},
	{"the messages keep their order", func(f *beatFixture) {
		heard := f.listen()
		var want []string
		for i := range 50 {
			text := fmt.Sprint(i)
			want = append(want, text)
			require.NoError(f, beatScript.Run(f.ctx(), f.rdb, []string{f.probe}, f.inbox, text, "r", 1000, "", 0, "", 0, "all", 0).Err())
		}
		require.Equal(f, want, heard())
	}},
}

const (
	randomVersion = "0123456789abcdef"
	otherVersion  = "fedcba9876543210"
)

func TestBeatScript(t *testing.T) {
	t.Parallel()
	for name, addr := range map[string]func(t *testing.T) string{
		"miniredis": func(t *testing.T) string {
			t.Helper()
			return miniredis.RunT(t).Addr()
		},
		"redis": func(t *testing.T) string {
			t.Helper()
			return redisserver.Run(t, redisserver.Options{}).Addr()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := redis.NewClient(&redis.Options{Addr: addr(t)})
			t.Cleanup(func() { _ = rdb.Close() })
			info, _ := rdb.Info(t.Context(), "replication").Result() // a miniredis does not tell
			server, _ := lineage.Parse(info)
			for _, spec := range slices.Concat(beatSpecs, registrySpecs) {
				t.Run(spec.name, func(t *testing.T) {
					t.Parallel()
					id := newID(8)
					spec.test(&beatFixture{T: t, rdb: rdb, probe: "tandem:probe:" + id, inbox: "tandem:inst:" + id + ":0", server: server.ID})
				})
			}
		})
	}
}
