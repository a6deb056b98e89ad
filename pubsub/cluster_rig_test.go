package pubsub

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/internal/partition"
	"github.com/tandemcache/tandem/internal/redisclient"
	"github.com/tandemcache/tandem/tests/redisserver"
)

// clusterBound is the staleness that members promise in tests of clusters: so much that no session ends where the machine is busy.
// Who waits for a heartbeat asks for it.
const clusterBound = 3 * time.Second

// clusterPatience is how long a test waits for what a cluster does about a lost node.
const clusterPatience = 60 * time.Second

// clusterRig is a bus on a real cluster.
type clusterRig struct {
	*testing.T
	servers *redisserver.Cluster
	rdb     *redis.ClusterClient // nobody's
	wire    *wire
	router  *redisclient.Cluster // the bus' own
	bus     *Cluster
	nodes   *nodeClients
	table   partition.Table
	name    string        // of the topics
	bound   time.Duration // of members who listen from here on
	busy    atomic.Int32
}

// calm is for tests that do nothing to it but use it, with names of their own.
var calm = redisserver.SharedCluster{Options: onlyMasters}

// rigs counts them.
var rigs atomic.Int64

// newClusterRig is a rig with the fewest partitions there are. route, if not nil, may lie about the topology.
func newClusterRig(t *testing.T, opts redisserver.ClusterOptions, route func(Router) Router) *clusterRig {
	t.Helper()
	return newClusterRigOn(t, redisserver.RunCluster(t, opts), route)
}

// newClusterRigOn is a rig on a cluster that is there.
func newClusterRigOn(t *testing.T, servers *redisserver.Cluster, route func(Router) Router, changes ...func(*redis.ClusterOptions)) *clusterRig {
	t.Helper()
	r := &clusterRig{
		T: t, servers: servers, rdb: servers.Client(), wire: &wire{dial: tcp}, bound: clusterBound, name: fmt.Sprint("c", rigs.Add(1)),
	}
	var err error
	r.table, err = partition.New(partition.Min)
	require.NoError(t, err)
	opt := &redis.ClusterOptions{Addrs: servers.Addrs(), Dialer: r.wire.Dial}
	for _, change := range changes {
		change(opt)
	}
	given := redis.NewClusterClient(opt)
	r.router, err = redisclient.Router(given)
	require.NoError(t, err)
	var to Router = r.router
	if route != nil {
		to = route(to)
	}
	r.nodes = &nodeClients{given: given}
	r.bus = NewCluster(ClusterOptions{Router: to, Table: r.table, Node: r.nodes.get, Redial: r.nodes.redial, Gone: r.nodes.gone})
	r.bus.writePatience = patience
	t.Cleanup(func() {
		r.bus.Stop()
		r.nodes.close()
		_ = r.router.Close()
		_ = given.Close()
		r.bus.Close()
		eventually(t, "no connection left open", func() bool { return r.wire.open.Load() == 0 })
	})
	return r
}

// nodeClients are the clients of a cluster's nodes.
type nodeClients struct {
	given *redis.ClusterClient

	mu      sync.Mutex
	closed  bool
	open    map[string]*redisclient.Client
	redials map[string]int
	went    []string
}

func (n *nodeClients) get(addr string) redis.UniversalClient {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	client := n.open[addr]
	if client == nil {
		client, _ = redisclient.Node(n.given, addr, nil)
		if n.open == nil {
			n.open = make(map[string]*redisclient.Client)
		}
		n.open[addr] = client
	}
	return client
}

func (n *nodeClients) redial(addr string) {
	n.mu.Lock()
	client := n.open[addr]
	if n.redials == nil {
		n.redials = make(map[string]int)
	}
	n.redials[addr]++
	n.mu.Unlock()
	if client != nil {
		client.Reset()
	}
}

func (n *nodeClients) gone(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	_ = n.open[addr].Close()
	delete(n.open, addr)
	n.went = append(n.went, addr)
}

func (n *nodeClients) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	for _, client := range n.open {
		_ = client.Close()
	}
}

func (n *nodeClients) redialled(addr string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.redials[addr]
}

// key is a name in a partition.
func (r *clusterRig) key(p int, what string) string {
	return "tandem:" + r.name + ":{" + r.table.Tag(p) + "}:" + what
}

func (r *clusterRig) channel(p int) string { return r.key(p, "bus:0") }

func (r *clusterRig) topic(p int, channel string, h Handler) Topic {
	return Topic{
		Partition: p, Channel: channel, VersionKey: r.key(p, "epoch"), VersionTTL: time.Hour, Registry: r.key(p, "instances"),
		Bound: r.bound, Handler: h,
	}
}

func (r *clusterRig) slot(p int) int { return partition.Slot(r.table.Tag(p)) }

func (r *clusterRig) master(p int) *redisserver.Node {
	r.Helper()
	var n *redisserver.Node
	require.Eventually(r, func() bool {
		var err error
		n, err = r.servers.Master(r.slot(p))
		return err == nil
	}, clusterPatience, 20*time.Millisecond)
	return n
}

// apart returns a partition of another master than p's, and one of the same.
func (r *clusterRig) apart(p int) (elsewhere, beside int) {
	r.Helper()
	elsewhere, beside = -1, -1
	for i := range r.table.Count() {
		switch {
		case i == p:
		case r.master(i) == r.master(p):
			beside = i
		default:
			elsewhere = i
		}
	}
	require.True(r, elsewhere >= 0 && beside >= 0)
	return elsewhere, beside
}

// ear is a member, with the times of what it was told.
type ear struct {
	*recorder
	part int

	mu    sync.Mutex
	lived []lived // in the order of the events
}

type lived struct {
	event
	when int64 // by mono
}

func (r *clusterRig) listen(p int) (*ear, func()) {
	r.Helper()
	return r.listenTo(p, r.channel(p))
}

func (r *clusterRig) listenTo(p int, channel string) (*ear, func()) {
	r.Helper()
	e := &ear{recorder: &recorder{t: r.T, busy: &r.busy}, part: p}
	e.on = func(event event) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.lived = append(e.lived, lived{event, mono.Now()})
	}
	leave, err := r.bus.Join(r.topic(p, channel, e))
	require.NoError(r, err)
	return e, leave
}

// listened listens and waits for the first proof.
func (r *clusterRig) listened(p int) (*ear, func()) {
	r.Helper()
	e, leave := r.listen(p)
	r.eventually("a proof", e.proven)
	return e, leave
}

func (r *clusterRig) eventually(what string, ok func() bool) {
	r.Helper()
	require.Eventually(r, ok, clusterPatience, time.Millisecond, what)
}

// lastProof returns the last time that was proven.
func (e *ear) lastProof() int64 {
	all := e.of("prove")
	if len(all) == 0 {
		return mono.Never
	}
	return all[len(all)-1].at
}

// proves waits for the proof of a time that is yet to come.
func (r *clusterRig) proves(what string, ears ...*ear) {
	r.Helper()
	for _, e := range ears {
		now := mono.Now()
		r.bus.Kick(e.part)
		r.eventually(what, func() bool { return e.lastProof() > now })
	}
}

// still waits until no heartbeat is on its way, nor asked for: the next one comes when it is due.
func (r *clusterRig) still(p int) {
	r.Helper()
	s := r.bus.parts[p].home.Load()
	require.NotNil(r, s)
	r.eventually("no heartbeat", func() bool { return len(s.kick) == 0 && len(s.beating) == 1 })
}

// holdBeat has a heartbeat sent of which nothing arrives at p's node before letGo is called.
func (r *clusterRig) holdBeat(p int) (letGo func()) {
	r.Helper()
	gate, held := make(chan struct{}), make(chan struct{}, 1)
	hold := func(_ *wireConn, b []byte) {
		if bytes.Contains(b, []byte("evalsha")) {
			select {
			case held <- struct{}{}:
				<-gate
			default:
			}
		}
	}
	letGo = sync.OnceFunc(func() { close(gate) })
	r.Cleanup(letGo)
	r.wire.onWrite.Store(&hold)
	r.bus.Kick(p)
	r.eventually("a heartbeat on its way", func() bool { return len(held) == 1 })
	return letGo
}

// talk publishes into partitions, one message after the other, as an invalidation does, until the returned function is called,
// which waits for one more in each of some: so a later proof is about it. What Redis has confirmed is to be heard.
type talk struct {
	mu   sync.Mutex
	said map[int][]saying // by partition
}

func (t *talk) of(p int) []saying {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.said[p])
}

type saying struct {
	key        string
	began, end int64
}

const sayScript = `redis.call('DEL', KEYS[1]) return redis.call('SPUBLISH', ARGV[1], ARGV[2])`

func (r *clusterRig) talk(parts ...int) (t *talk, stop func(after ...int)) {
	t = &talk{said: make(map[int][]saying)}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	for _, p := range parts {
		done.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				_ = r.say(ctx, t, p, fmt.Sprintf("%d-%d", p, n)) // what fails need not be heard
				time.Sleep(200 * time.Microsecond)
			}
		})
	}
	quiet := sync.OnceFunc(func() { cancel(); done.Wait() })
	r.Cleanup(quiet)
	return t, func(after ...int) {
		for _, p := range after {
			on := len(t.of(p)) + 2 // the next one may have begun already
			r.eventually("something is said", func() bool { return len(t.of(p)) >= on })
		}
		quiet()
	}
}

// say publishes one message into a partition.
func (r *clusterRig) say(ctx context.Context, t *talk, p int, key string) error {
	ctx, over := context.WithTimeout(ctx, 200*time.Millisecond)
	defer over()
	began := mono.Now()
	err := r.rdb.Eval(ctx, sayScript, []string{"{" + r.table.Tag(p) + "}entry"}, r.channel(p), inv(key).Encode()).Err()
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.said[p] = append(t.said[p], saying{key, began, mono.Now()})
	return nil
}

// judge requires of each proof that what was published before the proven time, and after the session had begun, had been handed
// over by then. It returns how many messages some proof was about.
func (e *ear) judge(t *talk) int {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	proven := map[string]bool{}
	heard := map[string]bool{}
	var begun int64
	in := false
	for _, ev := range e.lived {
		switch ev.what {
		case "begin":
			require.False(e.t, in, "a session in a session")
			in, begun = true, ev.when
		case "end":
			require.True(e.t, in, "the end of no session")
			in = false
		case "message":
			// It may come outside a session: the slot is being migrated, and this node goes on to publish.
			for _, key := range ev.m.Keys {
				heard[key] = true
			}
		case "prove":
			require.True(e.t, in, "a proof outside a session")
			for _, s := range t.said[e.part] {
				if s.began > begun && s.end < ev.at {
					require.True(e.t, heard[s.key], "partition %d: %s was published %v before the time that was proven, and not heard",
						e.part, s.key, time.Duration(ev.at-s.end))
					proven[s.key] = true
				}
			}
		}
	}
	return len(proven)
}
