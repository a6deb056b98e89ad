package integration

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/confirm"
	"github.com/tandemcache/tandem/tiered"
)

// pair is a master with a replica, and an address that leads to one of them, as a Sentinel's answer would.
type pair struct {
	*testing.T
	servers [2]server
	admins  [2]*redis.Client
	master  atomic.Int64
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{T: t}
	for i := range p.servers {
		p.servers[i] = startRedis(t, "--repl-diskless-sync-delay", "0")
		p.admins[i] = client(t, p.servers[i])
	}
	p.replicate(1, p.servers[0].Addr())
	return p
}

func (p *pair) replicate(i int, addr string) {
	p.Helper()
	host, port, _ := strings.Cut(addr, ":")
	require.NoError(p, p.admins[i].Do(soon(p), "REPLICAOF", host, port).Err())
}

func (p *pair) info(i int, field string) string {
	p.Helper()
	info, err := p.admins[i].InfoMap(soon(p), "replication").Result()
	require.NoError(p, err)
	return info["Replication"][field]
}

// settled waits until the replica has everything.
func (p *pair) settled() {
	p.Helper()
	eventually(p, "the replica follows", func() bool {
		return p.info(1, "master_link_status") == "up" && p.info(0, "master_repl_offset") == p.info(1, "master_repl_offset")
	})
}

// streamGoesOn waits until the master has written something, as each heartbeat does.
func (p *pair) streamGoesOn() {
	p.Helper()
	before := p.info(0, "master_repl_offset")
	eventually(p, "a heartbeat", func() bool { return p.info(0, "master_repl_offset") != before })
}

// cut keeps the replica from hearing any more.
func (p *pair) cut() { p.replicate(1, "127.0.0.1:1") }

// failOver makes the replica the master; the old one is killed.
func (p *pair) failOver() {
	p.Helper()
	require.NoError(p, p.servers[0].Kill())
	require.NoError(p, p.admins[1].Do(soon(p), "REPLICAOF", "NO", "ONE").Err())
	p.master.Store(1)
}

func (p *pair) instance(s *source, change ...func(*tiered.Options[Value])) *tiered.Cache[Value] {
	p.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: "moving:1", Dialer: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, p.servers[p.master.Load()].Addr())
	}})
	p.Cleanup(func() { _ = rdb.Close() })
	opts := tiered.Options[Value]{
		Load: s.load, LocalBytes: 8 << 20, RedisTimeout: unhurried, Logger: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&opts)
	}
	c, err := tiered.New(rdb, "things", opts)
	require.NoError(p, err)
	p.Cleanup(func() { _ = c.Close() })
	require.NoError(p, c.Ready(soon(p)))
	return c
}

// A confirmed invalidation that the promoted replica has never seen: its old value is in Redis again. Who invalidated it
// repeats it, and until then nobody believes Redis.
//
// Whether a heartbeat comes between the cut and the end of the master is chance; if so, beat.lua sees that the replica
// missed it, and starts a new epoch instead. Both must be right, and both must have been.
func TestAFailoverThatLosesAConfirmedInvalidation(t *testing.T) {
	var replayed, renewed int
	for round := 0; round < 12 && (replayed == 0 || renewed == 0 || round < 4); round++ {
		p, s := newPair(t), newSource(0)
		bound := 500 * time.Millisecond
		slow := func(o *tiered.Options[Value]) { o.MaxStaleness = bound }
		writer, reader := p.instance(s, slow), p.instance(s, slow)
		get(t, writer, "k")
		p.settled()
		eventually(t, "Redis is believed", func() bool { return writer.Health().RemoteTrusted })
		p.cut()
		if round%2 == 1 {
			for range 2 { // each heartbeat sees the stream up to the one before it
				p.streamGoesOn()
			}
		}
		v := s.write("k")
		confirm.Within(t, patience, func() error { return writer.Invalidate(soon(t), "k") })
		acked := time.Now()
		p.failOver()
		for time.Since(acked) < 20*bound {
			began := time.Since(acked)
			require.Equal(t, v.Version, get(t, writer, "k"), "C2, %v after", began)
			if got := get(t, reader, "k"); began > bound {
				require.Equal(t, v.Version, got, "C3, %v after", began)
			}
			if trusted(writer) && trusted(reader) {
				break
			}
			time.Sleep(time.Millisecond)
		}
		eventually(t, "both believe the new one", func() bool { return trusted(writer) && trusted(reader) })
		require.Equal(t, v.Version, get(t, reader, "k"))
		third := p.instance(s, slow)
		eventually(t, "a new instance believes Redis", func() bool { return third.Health().RemoteTrusted })
		require.Equal(t, v.Version, get(t, third, "k"), "from Redis")
		t.Logf("round %d: trusted again after %v; invalidations repeated %d", round, time.Since(acked), writer.Stats().Replayed)
		if strings.Contains(p.admins[1].Get(soon(t), "tandem:{things}:epoch").Val(), "=") {
			replayed++
			require.Positive(t, writer.Stats().Replayed)
		} else {
			renewed++
		}
	}
	t.Logf("epoch kept and invalidations repeated %d times, new epoch %d times", replayed, renewed)
	require.Positive(t, replayed)
	require.Positive(t, renewed)
}

// trusted reports whether c believes a server that has taken over.
func trusted(c *tiered.Cache[Value]) bool {
	h := c.Health()
	return c.Stats().ServerChanges > 0 && h.RemoteTrusted && h.LocalTrusted && h.PendingKeys == 0
}

// A failover that loses nothing keeps what is in Redis.
func TestAFailoverThatLosesNothingKeepsTheEntries(t *testing.T) {
	p, s := newPair(t), newSource(0)
	short := func(o *tiered.Options[Value]) { o.MaxStaleness = 500 * time.Millisecond }
	c := p.instance(s, short)
	key := stored(t, c)
	// Heartbeats wait, so that the replica has the last one.
	require.NoError(t, p.admins[0].Do(soon(t), "CLIENT", "PAUSE", "60000", "WRITE").Err())
	p.settled()
	p.failOver()
	eventually(t, "the new server is believed", func() bool { return c.Stats().ServerChanges > 0 && c.Health().RemoteTrusted })
	loads := s.loads.Load()
	another := p.instance(s, short, func(o *tiered.Options[Value]) { o.Load = nil })
	eventually(t, "by a new instance as well", func() bool { return another.Health().RemoteTrusted })
	var got Value
	eventually(t, "it is in Redis still", func() bool { // there is nowhere else that it could come from
		var err error
		if got, err = another.Get(t.Context(), key); errors.Is(err, tiered.ErrNotFound) {
			return false
		}
		require.NoError(t, err)
		return true
	})
	require.Equal(t, s.read(key), got)
	require.Equal(t, loads, s.loads.Load())
}

// A restart brings back values that were deleted since the snapshot, and leases with them.
func TestARestartFromAnOldSnapshot(t *testing.T) {
	for name, replica := range map[string]bool{"alone": false, "with a replica": true} {
		t.Run(name, func(t *testing.T) {
			var p *pair
			if replica {
				p = newPair(t)
				p.settled()
			} else {
				p = &pair{T: t}
				p.servers[0] = startRedis(t)
				p.admins[0] = client(t, p.servers[0])
			}
			s := newSource(0)
			short := func(o *tiered.Options[Value]) { o.MaxStaleness = 500 * time.Millisecond }
			writer, reader := p.instance(s, short), p.instance(s, short)
			key := stored(t, writer)
			require.NoError(t, p.admins[0].Set(soon(t), "marker", "that nobody deletes", 0).Err())
			eventually(t, "a snapshot", func() bool { return p.admins[0].Save(soon(t)).Err() == nil }) // a replica may have one made
			require.NotZero(t, p.admins[0].Exists(soon(t), "tandem:{things}:k:"+key).Val(), "the old value is in it")
			v := s.write(key)
			confirm.Within(t, patience, func() error { return writer.Invalidate(soon(t), key) })
			acked := time.Now()
			sessions := reader.Stats().Sessions
			require.NoError(t, p.servers[0].Kill())
			require.NoError(t, p.servers[0].Restart())
			// Not the old value: the writer may have repeated its invalidation by now.
			require.NotZero(t, p.admins[0].Exists(soon(t), "marker").Val(), "what was in the snapshot is back")
			trusted := func() bool {
				h := writer.Health()
				return h.RemoteTrusted && h.PendingKeys == 0 && reader.Health().RemoteTrusted && reader.Stats().Sessions > sessions
			}
			for until := time.Now().Add(patience); !trusted(); {
				require.Less(t, time.Now(), until)
				require.Equal(t, v.Version, get(t, writer, key))
				require.Equal(t, v.Version, get(t, reader, key))
			}
			require.Equal(t, v.Version, get(t, writer, key))
			require.Equal(t, v.Version, get(t, reader, key))
			require.Equal(t, v.Version, get(t, p.instance(s, short), key), "from Redis")
			t.Logf("trusted again after %v", time.Since(acked))
		})
	}
}

// A load under way when Redis goes back to a snapshot in which its lease is: what it brings is older than an invalidation
// that the snapshot does not know.
func TestALeaseThatASnapshotBringsBack(t *testing.T) {
	p, s := &pair{T: t}, newSource(0)
	p.servers[0] = startRedis(t)
	p.admins[0] = client(t, p.servers[0])
	loader, writer := p.instance(s), p.instance(s)
	read, letGo := s.holdNext()
	defer letGo()
	old := make(chan int64, 1)
	go func() {
		v, _ := loader.Get(soon(t), "k")
		old <- v.Version
	}()
	<-read
	require.NoError(t, p.admins[0].Save(soon(t)).Err())
	v := s.write("k")
	require.NoError(t, writer.Invalidate(soon(t), "k"))
	require.NoError(t, p.servers[0].Kill())
	require.NoError(t, p.servers[0].Restart())
	eventually(t, "the server is believed again", func() bool {
		return trusted(writer) && trusted(loader)
	})
	letGo()
	require.Equal(t, int64(0), <-old, "who asked before the invalidation")
	for _, c := range []*tiered.Cache[Value]{loader, writer, p.instance(s)} {
		require.Equal(t, v.Version, get(t, c, "k"))
	}
}
