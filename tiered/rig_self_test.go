package tiered

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote"
)

// What tests of caches rely on.
func TestRig(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t testing.TB) rig{
		"single":  func(t testing.TB) rig { t.Helper(); return newRedis(t) },
		"cluster": func(t testing.TB) rig { t.Helper(); return newClusterRig(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for what, test := range map[string]func(t *testing.T, r rig){
				"names":        rigNames,
				"values":       rigValues,
				"interception": rigInterception,
				"pipelines":    rigPipelines,
				"messages":     rigMessages,
				"outage":       rigOutage,
			} {
				t.Run(what, func(t *testing.T) {
					t.Parallel()
					test(t, start(t))
				})
			}
		})
	}
}

func rigNames(t *testing.T, r rig) {
	for i := range 100 {
		name, key, err := remote.ParseEntry(r.entry(keyName(i)))
		require.NoError(t, err)
		require.Equal(t, r.name(), name)
		require.Equal(t, keyName(i), key)
	}
	require.True(t, isBeat("EVALSHA", []string{"", "1", "tandem:probe:x"}))
	require.True(t, isBeat("EVALSHA", []string{"", "1", "tandem:{a0}:probe:x"}))
	require.False(t, isBeat("EVALSHA", []string{"", "1", "tandem:{things}:k:probe:"}))
}

func rigValues(t *testing.T, r rig) {
	rdb := r.client(t)
	for i := range 20 {
		name := r.entry(keyName(i))
		require.False(t, r.exists(name))
		require.Empty(t, r.hget(name, "f"))
		r.hset(name, "f", "v")
		require.Equal(t, "v", rdb.HGet(soon(t), name, "f").Val())
		require.Equal(t, "v", r.hget(name, "f"))
		require.Zero(t, r.ttl(name))
		require.True(t, rdb.Expire(soon(t), name, time.Hour).Val())
		require.InDelta(t, time.Hour, r.ttl(name), float64(time.Minute))
		require.True(t, r.exists(name))
		require.True(t, r.del(name))
		require.False(t, r.del(name))
		r.set(name, "text")
		require.Equal(t, "text", rdb.Get(soon(t), name).Val())
		r.eval(`return redis.call('DEL', KEYS[1])`, []string{name})
		require.False(t, r.exists(name))
	}
}

func rigInterception(t *testing.T, r rig) {
	rdb := r.client(t)
	require.NoError(t, rdb.Set(soon(t), r.entry("k"), "v", 0).Err())
	var mu sync.Mutex
	var seen []string
	r.intercept(func(cmd string, args []string) error {
		if cmd == "SET" {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, args...)
			return errors.New("ERR not now")
		}
		return nil
	})
	require.EqualError(t, rdb.Set(soon(t), r.entry("k"), "a\r\nb", 0).Err(), "ERR not now")
	mu.Lock()
	require.Equal(t, []string{r.entry("k"), "a\r\nb"}, seen)
	mu.Unlock()
	require.Equal(t, "v", rdb.Get(soon(t), r.entry("k")).Val())
	r.up()
	require.NoError(t, rdb.Set(soon(t), r.entry("k"), "w", 0).Err())

	reached, letGo := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r.intercept(func(cmd string, _ []string) error {
		if cmd == "GET" {
			once.Do(func() { close(reached); <-letGo })
		}
		return nil
	})
	held := make(chan string, 1)
	go func() { held <- rdb.Get(soon(t), r.entry("k")).Val() }()
	wait(t, "the command", reached)
	require.NoError(t, rdb.Set(soon(t), r.entry("k"), "x", 0).Err(), "another connection")
	close(letGo)
	require.Equal(t, "x", wait(t, "its answer", held))
}

// An answer in Redis' place comes where it belongs.
func rigPipelines(t *testing.T, r rig) {
	rdb := r.client(t)
	const n = 60
	for i := range n {
		r.set(r.entry(keyName(i)), fmt.Sprint(i))
	}
	r.intercept(func(cmd string, args []string) error {
		if cmd == "GET" && args[0][len(args[0])-1] == '7' {
			return errors.New("ERR no")
		}
		return nil
	})
	pipe := rdb.Pipeline()
	for i := range n {
		pipe.Get(soon(t), r.entry(keyName(i)))
	}
	cmds, err := pipe.Exec(soon(t))
	require.Error(t, err)
	for i, cmd := range cmds {
		if i%10 == 7 {
			require.EqualError(t, cmd.Err(), "ERR no")
		} else {
			require.Equal(t, fmt.Sprint(i), cmd.(*redis.StringCmd).Val())
		}
	}
}

func rigMessages(t *testing.T, r rig) {
	rdb := r.client(t)
	subscribe := rdb.Subscribe
	if r.partitions() > 1 {
		subscribe = rdb.SSubscribe
	}
	for i := range 5 {
		s := subscribe(soon(t), r.channel(keyName(i)))
		_, err := s.Receive(soon(t))
		require.NoError(t, err)
		for range 3 {
			r.publish(keyName(i), "m")
			m, err := s.ReceiveMessage(soon(t))
			require.NoError(t, err)
			require.Equal(t, "m", m.Payload)
			require.NoError(t, s.Ping(soon(t)))
		}
		require.NoError(t, s.Close())
	}
}

func rigOutage(t *testing.T, r rig) {
	rdb := r.client(t)
	name := r.entry("k")
	require.NoError(t, rdb.Set(soon(t), name, "v", 0).Err())
	for _, away := range []struct{ begin, end func() }{{r.down, r.up}, {r.close, r.restart}} {
		away.begin()
		require.Error(t, rdb.Get(soon(t), name).Err())
		require.NotErrorIs(t, rdb.Get(soon(t), name).Err(), redis.Nil)
		away.end()
		eventually(t, "it is there again", func() bool { return rdb.Get(soon(t), name).Val() == "v" })
	}
	r.intercept(func(cmd string, _ []string) error {
		if cmd == "GET" {
			return io.EOF
		}
		return nil
	})
	require.Error(t, rdb.Get(soon(t), name).Err())
	require.NoError(t, rdb.Set(soon(t), name, "w", 0).Err())
}
