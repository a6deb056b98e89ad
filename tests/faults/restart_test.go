package faults

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/tests/confirm"
	"github.com/tandemcache/tandem/tiered"
)

// C2, C3, C5 and C6 while the server is killed and comes back empty, again and again, under reads and writes.
func TestAServerThatRestartsUnderLoad(t *testing.T) {
	const bound, rounds = 500 * time.Millisecond, 3
	srv, s := startRedis(t), newSource(0)
	writer, other := ready(t, srv.Addr(), s, staleness(bound)), ready(t, srv.Addr(), s, staleness(bound))
	j := newJudge(s, bound)
	keys := []string{"a", "b", "c", "d"}
	stopWriter, stopOther := j.readers(1, writer, true, keys...), j.readers(2, other, false, keys...)
	defer stopWriter()
	defer stopOther()

	var confirmed, pending atomic.Int64
	over := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-over:
				return
			case <-time.After(2 * time.Millisecond):
			}
			if ok, _ := j.write(t, writer, keys[i%len(keys)]); ok {
				confirmed.Add(1)
			} else {
				pending.Add(1)
			}
		}
	})
	var healed time.Duration
	for range rounds {
		before, without := confirmed.Load(), pending.Load()
		eventually(t, "writes are confirmed", func() bool { return confirmed.Load() > before+5 })
		require.NoError(t, srv.Kill())
		eventually(t, "writes without a server", func() bool { return pending.Load() > without+5 })
		require.NoError(t, srv.Restart())
		healed = max(healed, trusted(t, other))
	}
	close(over)
	writing.Wait()
	trusted(t, writer, other)
	for _, key := range keys {
		eventually(t, "the last version", func() bool { return get(t, other, key) == s.version(key) })
	}
	stopWriter()
	stopOther()
	t.Logf("%d restarts: %d Invalidates confirmed, %d pending; %s; trusted at most %v after",
		rounds, confirmed.Load(), pending.Load(), j.sentence(), round(healed))
	require.Positive(t, pending.Load())
	j.acquit(t)
}

// A load is under way and another instance waits for its lease when the server restarts empty: both get a value, the waiter
// in time, and what was read before a write that came after the restart is stored nowhere.
func TestARestartWhileALeaseIsOut(t *testing.T) {
	srv, s := startRedis(t), newSource(0)
	const leaseWait = time.Second
	wait := func(o *tiered.Options[value]) {
		o.LeaseWait = leaseWait
		o.MaxStaleness, o.RedisTimeout = time.Minute, patience // while Redis runs it answers, however busy the machine is
	}
	holder, waiter := ready(t, srv.Addr(), s, wait), ready(t, srv.Addr(), s, wait)
	letGo := s.holdLoads()
	defer letGo()

	versions := make(chan int64, 2)
	ask := func(c *cache) {
		v, err := c.Get(context.Background(), "k")
		if err != nil || !v.of("k") {
			t.Errorf("Get: %+v, %v", v, err)
		}
		versions <- v.Version
	}
	go ask(holder)
	eventually(t, "the holder loads", func() bool { return s.loads.Load() == 1 })
	began := time.Now()
	go ask(waiter)
	eventually(t, "the other waits", func() bool { return waiter.Stats().LeaseWaits > 0 })
	require.NoError(t, srv.Kill())
	require.NoError(t, srv.Restart())
	eventually(t, "the waiter loads by itself", func() bool { return s.loads.Load() == 2 })
	waited := time.Since(began)
	require.Less(t, waited, leaseWait+tiered.DefaultRedisTimeout+slack)

	eventually(t, "the server is known to be back", func() bool { return healthy(holder) && healthy(waiter) })
	v := s.write("k")
	confirm.Within(t, patience, func() error { return holder.Invalidate(soon(t), "k") })
	letGo()
	require.Less(t, <-versions, v, "read before the write, for those who asked before")
	require.Less(t, <-versions, v)
	require.Equal(t, v, get(t, holder, "k"))
	third := ready(t, srv.Addr(), s)
	require.Equal(t, v, get(t, third, "k"), "what L2 holds")
	require.EqualValues(t, 1, third.Stats().RemoteHits+third.Stats().Loads, "one or the other, once")
	t.Logf("the waiter loaded by itself %v after its Get; refused fills %d", round(waited), holder.Stats().Refused+waiter.Stats().Refused)
}

// SIGKILL in the middle of a stream of Invalidates, each a script over many keys: every one of them returns nil or ErrPending,
// and what is pending is published after the restart.
func TestAKillDuringScripts(t *testing.T) {
	const streams, perCall = 4, 300
	srv, s := startRedis(t), newSource(0)
	p := newProxy(t, srv.Addr())
	c := ready(t, p.addr(), s, staleness(time.Minute), func(o *tiered.Options[value]) {
		o.RedisTimeout = patience // nothing is pending before the kill, however busy the machine is
	})

	var confirmed atomic.Int64
	var mu sync.Mutex // protects pending
	pending := make(map[string]bool)
	over := make(chan struct{})
	var calls sync.WaitGroup
	for stream := range streams {
		calls.Go(func() {
			for call := 0; ; call++ {
				select {
				case <-over:
					return
				default:
				}
				keys := make([]string, perCall)
				for i := range keys {
					keys[i] = fmt.Sprintf("%d:%d:%d", stream, call, i)
				}
				err := c.Invalidate(context.Background(), keys...)
				switch {
				case err == nil:
					confirmed.Add(1)
				case errors.Is(err, tiered.ErrPending):
					mu.Lock()
					for _, key := range keys {
						pending[key] = true
					}
					mu.Unlock()
					return // one each, or the rest of the stream finds nobody
				default:
					t.Errorf("Invalidate: %v", err)
				}
			}
		})
	}
	eventually(t, "scripts run", func() bool { return confirmed.Load() > 50 })
	require.NoError(t, srv.Kill())
	p.setRefuse(true)
	close(over)
	calls.Wait()
	require.Equal(t, len(pending), c.Health().PendingKeys)
	require.NotEmpty(t, pending)

	require.NoError(t, srv.Restart())
	heard := subscribe(t, client(t, srv.Addr()))
	p.heal()
	began := time.Now()
	left := len(pending)
	for left > 0 {
		m, err := heard.ReceiveTimeout(soon(t), patience)
		require.NoError(t, err)
		told := messageOf(t, m)
		if told.Op == pubsub.All {
			break // too much was pending, or under way when the server was lost
		}
		for _, key := range told.Keys {
			if pending[key] {
				pending[key] = false
				left--
			}
		}
	}
	took := time.Since(began)
	eventually(t, "nothing is pending", func() bool { return c.Health().PendingKeys == 0 })
	require.Less(t, took, 2*time.Second+slack)
	t.Logf("%d Invalidates of %d keys confirmed before the kill, %d keys pending, all done %v after the server was reached again",
		confirmed.Load(), perCall, len(pending), round(took))
}

// subscribe hears what the instances of the cache are told.
func subscribe(t *testing.T, rdb *redis.Client) *redis.PubSub {
	t.Helper()
	ps := rdb.Subscribe(context.Background(), channel)
	t.Cleanup(func() { _ = ps.Close() })
	_, err := ps.Receive(soon(t))
	require.NoError(t, err)
	return ps
}

func messageOf(t *testing.T, received any) pubsub.Message {
	t.Helper()
	m, ok := received.(*redis.Message)
	require.True(t, ok, "%T", received)
	parsed, err := pubsub.Parse(m.Payload)
	require.NoError(t, err)
	return parsed
}
