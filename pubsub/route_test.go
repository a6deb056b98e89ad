package pubsub

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/partition"
	"github.com/tandemcache/tandem/internal/redisclient"
)

// The nodes of these tests.
const (
	well  = "127.0.0.1:1" // subscribes to what it is asked for
	gone  = "127.0.0.1:2" // cannot be connected to
	other = "127.0.0.1:3" // says that it has no slot
	third = "127.0.0.1:4" // says so too
)

// routeRig is a bus on nodes that do little but let themselves be found. It is for bubbles of testing/synctest.
type routeRig struct {
	*testing.T
	bus   *Cluster
	busy  atomic.Int32
	nodes map[string]*routeNode
	names map[string]*redis.Client // by address: what the router answers
	homes []atomic.Pointer[string] // of the partitions, in the topology
	lost  atomic.Bool              // there is no topology
	holed atomic.Bool              // in the topology no node has a slot, and any is named
	logs  bytes.Buffer             // to be read when everybody waits

	lookups, reloads atomic.Int64
}

type routeNode struct {
	client         *redisclient.Client
	dials, refused atomic.Int64
}

func inRouteBubble(t *testing.T, test func(t *testing.T, r *routeRig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Helper()
		test(t, newRouteRig(t))
	})
}

func newRouteRig(t *testing.T) *routeRig {
	t.Helper()
	t.Cleanup(func() { time.Sleep(3 * time.Second) }) // see newRigInBubble
	table, err := partition.New(partition.Min)
	require.NoError(t, err)
	r := &routeRig{
		T: t, nodes: make(map[string]*routeNode), names: make(map[string]*redis.Client), homes: make([]atomic.Pointer[string], table.Count()),
	}
	for p := range r.homes {
		r.put(p, well)
	}
	for _, addr := range []string{well, gone, other, third} {
		r.addNode(addr)
	}
	r.bus = NewCluster(ClusterOptions{
		Router: r, Table: table, Node: func(addr string) redis.UniversalClient { return r.nodes[addr].client },
		Logger: slog.New(slog.NewTextHandler(&r.logs, nil)),
	})
	t.Cleanup(func() {
		r.bus.Stop()
		for addr, n := range r.nodes {
			_ = n.client.Close()
			_ = r.names[addr].Close()
		}
		r.bus.Close()
	})
	return r
}

func (r *routeRig) addNode(addr string) {
	r.Helper()
	n := &routeNode{}
	m := miniredis.NewMiniRedis()
	r.Cleanup(m.Close)
	first, err := m.Dial() // starts the server
	require.NoError(r, err)
	require.NoError(r, first.Close())
	m.Server().SetPreHook(func(p *server.Peer, cmd string, args ...string) bool { return n.answer(addr, p, cmd, args) })
	given := redis.NewClient(&redis.Options{Addr: addr, PoolSize: 1000, Dialer: func(context.Context, string, string) (net.Conn, error) {
		n.dials.Add(1)
		if addr == gone {
			return nil, errRefused
		}
		conn, err := m.Dial()
		if err != nil {
			return nil, err
		}
		return newPumped(conn), nil
	}})
	n.client, err = redisclient.Derive(given, nil)
	require.NoError(r, err)
	require.NoError(r, given.Close())
	r.nodes[addr] = n
	r.names[addr] = redis.NewClient(&redis.Options{Addr: addr})
}

// pumped is a pipe that takes what is written before it is read, as a socket does: who writes may hold what the reader waits for.
type pumped struct {
	net.Conn
	out    chan []byte
	closed chan struct{}
	once   sync.Once
}

func newPumped(conn net.Conn) *pumped {
	c := &pumped{Conn: conn, out: make(chan []byte, 1000), closed: make(chan struct{})}
	go func() {
		for {
			select {
			case b := <-c.out:
				_, _ = c.Conn.Write(b)
			case <-c.closed:
				return
			}
		}
	}()
	return c
}

func (c *pumped) Write(b []byte) (int, error) {
	select {
	case c.out <- bytes.Clone(b):
		return len(b), nil
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

func (c *pumped) SetWriteDeadline(time.Time) error { return nil }

func (c *pumped) SetDeadline(at time.Time) error { return c.SetReadDeadline(at) }

func (c *pumped) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// answer is what a node says to subscriptions and heartbeats.
func (n *routeNode) answer(addr string, p *server.Peer, cmd string, args []string) bool {
	switch {
	case cmd != "SSUBSCRIBE" && cmd != "SUNSUBSCRIBE" && cmd != "EVALSHA" && cmd != "EVAL":
		return false
	case addr == other, addr == third:
		n.refused.Add(1)
		p.WriteError("MOVED 1 " + well)
	case cmd == "SSUBSCRIBE", cmd == "SUNSUBSCRIBE":
		for _, name := range args {
			p.WriteLen(3)
			p.WriteBulk(map[string]string{"SSUBSCRIBE": "ssubscribe", "SUNSUBSCRIBE": "sunsubscribe"}[cmd])
			p.WriteBulk(name)
			p.WriteInt(1)
		}
	default:
		p.WriteError("ERR it takes no heartbeats")
	}
	p.Flush()
	return true
}

// put is what the topology says from now on.
func (r *routeRig) put(p int, addr string) { r.homes[p].Store(&addr) }

func (r *routeRig) MasterForKey(_ context.Context, key string) (*redis.Client, error) {
	lookup := r.lookups.Add(1)
	if r.lost.Load() {
		return nil, errRefused
	}
	if r.holed.Load() {
		time.Sleep(time.Millisecond) // or a loop without pauses would take none of the bubble's time, and have no end
		return r.names[[]string{other, third}[lookup%2]], nil
	}
	for i, p := range r.bus.parts {
		if p.probe == key {
			return r.names[*r.homes[i].Load()], nil
		}
	}
	panic(key)
}

func (r *routeRig) ReloadState(context.Context) { r.reloads.Add(1) }

func (r *routeRig) join(p int) (*recorder, func()) {
	r.Helper()
	h := &recorder{t: r.T, busy: &r.busy}
	leave, err := r.bus.Join(Topic{
		Partition: p, Channel: fmt.Sprint("bus", p), VersionKey: "v", VersionTTL: time.Hour, Bound: bound, Handler: h,
	})
	require.NoError(r, err)
	return h, leave
}

// hurry looks for nodes and asks for heartbeats once in a millisecond, as many calls do whose slots are elsewhere.
func (r *routeRig) hurry(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Millisecond) {
		r.bus.searchSoon()
		for p := range r.homes {
			r.bus.Kick(p)
		}
		synctest.Wait()
	}
}

// A node that is away is dialled at the pace of its own backoffs, those of the subscription and of the heartbeats.
func TestOnAClusterADeadNodeIsDialledWithPauses(t *testing.T) {
	inRouteBubble(t, func(t *testing.T, r *routeRig) {
		for _, p := range []int{2, 3} {
			r.put(p, gone)
			r.join(p)
		}
		h, _ := r.join(4)
		const seconds = 20
		r.hurry(seconds * time.Second)
		dials := r.nodes[gone].dials.Load()
		t.Logf("%d dials", dials)
		require.LessOrEqual(t, dials, int64(10*seconds)) // go-redis' pool ceases to dial after many more have failed
		require.GreaterOrEqual(t, dials, int64(seconds/2), "and it is dialled")
		require.Positive(t, h.count("begin"))
	})
}

// What pauses one address has are not those of another.
func TestOnAClusterANodeThatIsAwayDoesNotDelayOthers(t *testing.T) {
	for _, addr := range []string{gone, other} {
		inRouteBubble(t, func(t *testing.T, r *routeRig) {
			r.put(2, addr)
			misled, _ := r.join(2)
			for range 20 {
				time.Sleep(1234 * time.Millisecond)
				synctest.Wait()
				began := time.Now()
				h, leave := r.join(4)
				synctest.Wait()
				require.Equal(t, "begin", h.story())
				require.Zero(t, time.Since(began))
				leave()
			}
			require.Empty(t, misled.story())

			// Nor is there a pause for the partition itself, once the topology says something else.
			r.put(2, well)
			r.bus.searchSoon()
			synctest.Wait()
			require.Equal(t, "begin", misled.story())
		})
	}
}

// A topology that names a wrong node is noticed without anybody's asking.
func TestOnAClusterATopologyThatChanges(t *testing.T) {
	for _, addr := range []string{gone, other} {
		inRouteBubble(t, func(t *testing.T, r *routeRig) {
			r.put(2, addr)
			misled, _ := r.join(2)
			time.Sleep(10 * time.Second)
			r.put(2, well)
			time.Sleep(maxBackoff)
			synctest.Wait()
			require.Equal(t, "begin", misled.story())
		})
	}
}

// On the connection to a node that has no partition any more nothing arrives, and nothing is wrong with that.
func TestOnAClusterANodeThatHasLostItsPartitions(t *testing.T) {
	inRouteBubble(t, func(t *testing.T, r *routeRig) {
		h, leave := r.join(2)
		synctest.Wait()
		require.Equal(t, "begin", h.story())
		s := r.bus.shardOf(2)
		leave()
		time.Sleep(2 * silence(maxInterval))
		synctest.Wait()
		require.Nil(t, s.conn)
		require.Empty(t, r.logs.String())

		// Nor with one that goes when its node is about to be connected to.
		r.bus.mu.Lock()
		s.takeLocked(r.bus.parts[2])
		s.detachLocked(r.bus.parts[2], errGivenUp)
		r.bus.mu.Unlock()
		time.Sleep(maxBackoff)
		synctest.Wait()
		require.Empty(t, r.logs.String())

		reloads := r.reloads.Load()
		h, _ = r.join(2)
		time.Sleep(maxBackoff)
		synctest.Wait()
		require.Equal(t, "begin", h.story())
		require.Equal(t, reloads, r.reloads.Load(), "nobody doubts that the slot is there")
	})
}

// Who has come to a node that was not connected to for want of partitions has no reason to doubt it.
func TestOnAClusterWhichNodeHasFailed(t *testing.T) {
	inRouteBubble(t, func(t *testing.T, r *routeRig) {
		s := newShard(r.bus, well, r.nodes[well].client) // nobody's loop has it
		_, err := s.session()
		require.ErrorIs(t, err, errUnused)
		require.False(t, s.away())
		r.bus.mu.Lock()
		s.takeLocked(r.bus.parts[2])
		r.bus.mu.Unlock()
		s.lost(err)
		require.False(t, s.away())
		s.lost(errSilence)
		require.True(t, s.away())
	})
}

// However many slots are refused, and however often they are looked for, a node is asked for the topology, and for a slot that it
// has refused, at a pace that troubles nobody.
func TestOnAClusterAStormOfRefusals(t *testing.T) {
	inRouteBubble(t, func(t *testing.T, r *routeRig) {
		for p := range r.homes {
			r.put(p, other)
			r.join(p)
		}
		synctest.Wait()
		require.EqualValues(t, 1, r.reloads.Load(), "the first one comes at once")
		r.hurry(5 * time.Second)
		const seconds = 20
		refused, reloads := r.nodes[other].refused.Load(), r.reloads.Load()
		r.hurry(seconds * time.Second)
		reloads, refused = r.reloads.Load()-reloads, r.nodes[other].refused.Load()-refused
		t.Logf("%d questions for the topology, %d refusals", reloads, refused)
		require.LessOrEqual(t, reloads, int64(seconds*time.Second/topologyPause)+1)
		require.GreaterOrEqual(t, reloads, int64(seconds), "and it is asked for")
		require.LessOrEqual(t, refused, int64(len(r.homes)*seconds*10))
	})
}

// For a slot that no node has go-redis names any, another one at each call. Each of them refuses it.
func TestOnAClusterASlotThatNoNodeHas(t *testing.T) {
	inRouteBubble(t, func(t *testing.T, r *routeRig) {
		r.holed.Store(true)
		h, _ := r.join(2)
		time.Sleep(5 * time.Second)
		refusals := func() int64 { return r.nodes[other].refused.Load() + r.nodes[third].refused.Load() }
		const seconds = 20
		refused := refusals()
		time.Sleep(seconds * time.Second)
		refused = refusals() - refused
		t.Logf("%d refusals", refused)
		require.LessOrEqual(t, refused, int64(10*seconds))
		require.GreaterOrEqual(t, refused, int64(seconds/2), "and it is asked for")
		require.Empty(t, h.story())
		r.holed.Store(false)
		time.Sleep(3 * maxBackoff) // the pause, and the look after it
		synctest.Wait()
		require.Positive(t, h.count("begin"))
	})
}

// Without a topology a look for a node connects to nodes.
func TestOnAClusterWithoutATopology(t *testing.T) {
	inRouteBubble(t, func(t *testing.T, r *routeRig) {
		r.lost.Store(true)
		h, _ := r.join(2)
		r.hurry(5 * time.Second)
		const seconds = 20
		lookups, reloads := r.lookups.Load(), r.reloads.Load()
		r.hurry(seconds * time.Second)
		require.LessOrEqual(t, r.lookups.Load()-lookups, int64(10*seconds))
		require.LessOrEqual(t, r.reloads.Load()-reloads, int64(seconds*time.Second/topologyPause)+1)
		r.lost.Store(false)
		time.Sleep(maxBackoff)
		synctest.Wait()
		require.Equal(t, "begin", h.story())
	})
}
