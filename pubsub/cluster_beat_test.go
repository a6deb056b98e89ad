package pubsub

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/tests/redisserver"
)

// version waits for a report of a heartbeat that is yet to be sent, and returns it.
func (r *clusterRig) report(e *ear) BeatReport {
	r.Helper()
	now := mono.Now()
	r.bus.Kick(e.part)
	r.eventually("a heartbeat", func() bool { b := e.latest(); return b.Err == nil && b.Sent > now })
	return e.latest()
}

func (r *clusterRig) another() *clusterRig {
	r.Helper()
	other := newClusterRigOn(r.T, r.servers, nil)
	other.name, other.bound = r.name, r.bound
	return other
}

func TestOnAClusterHeartbeatsReportVersions(t *testing.T) {
	t.Parallel()
	r := newClusterRigOn(t, calm.Run(t), nil)
	elsewhere, beside := r.apart(2)
	a, _ := r.listened(2)
	b, _ := r.listened(beside)
	c, _ := r.listened(elsewhere)
	versions := func() [3]string { return [3]string{r.report(a).Version, r.report(b).Version, r.report(c).Version} }
	before := versions()
	for _, v := range before {
		require.Len(t, v, versionLen)
	}
	require.NotEqual(t, before[0], before[2])
	require.Equal(t, before, versions(), "they stay")
	require.Equal(t, r.master(2).Addr(), a.latest().Node)
	require.Equal(t, r.master(elsewhere).Addr(), c.latest().Node)
	require.InDelta(t, time.Now().UnixMilli(), a.latest().RedisNow, 60_000)

	other := r.another()
	late, _ := other.listened(2)
	require.Equal(t, before[0], other.report(late).Version, "one for all instances")

	require.NoError(t, r.rdb.Set(t.Context(), r.key(2, "epoch"), otherVersion+":+", time.Hour).Err())
	after := versions()
	require.Equal(t, [3]string{otherVersion, before[1], before[2]}, after, "that of one partition")
	require.NoError(t, r.rdb.Del(t.Context(), r.key(2, "epoch")).Err())
	require.NotEqual(t, otherVersion, r.report(a).Version)
	require.Equal(t, other.report(late).Version, r.report(a).Version)
	for _, e := range []*ear{a, b, c} {
		require.Equal(t, 1, e.count("begin"))
		for _, report := range e.reports() {
			require.NoError(t, report.Err)
			require.False(t, report.Moved)
			require.False(t, report.Kept)
		}
	}
}

// Most heartbeats expect nothing new: beat.lua is for the first one, and for what is not as expected.
func TestOnAClusterHeartbeatsAreSteady(t *testing.T) {
	t.Parallel()
	servers := redisserver.RunCluster(t, onlyMasters) // of its own, for its scripts
	r := newClusterRigOn(t, servers, nil)
	elsewhere, beside := r.apart(2)
	a, _ := r.listened(2)
	b, _ := r.listened(beside)
	c, _ := r.listened(elsewhere)
	r.report(a)
	known := func(p int) [3]bool {
		got, err := r.master(p).Client().ScriptExists(t.Context(), hashOf(sharedSource(beatSource)), hashOf(sharedSource(steadySource)), hashOf(sameSource)).Result()
		require.NoError(t, err)
		return [3]bool(got)
	}
	for _, p := range []int{2, elsewhere} {
		require.NoError(t, r.master(p).Client().ScriptFlush(t.Context()).Err())
	}
	for range 3 {
		r.proves("a proof", a, b, c)
	}
	require.Equal(t, [3]bool{false, true, true}, known(2))

	require.NoError(t, r.rdb.HDel(t.Context(), r.key(2, "instances"), r.bus.ID()).Err())
	eventually(t, "it is registered again", func() bool {
		return r.rdb.HExists(t.Context(), r.key(2, "instances"), r.bus.ID()).Val()
	})
	require.Equal(t, [3]bool{true, true, true}, known(2))
	require.Equal(t, [3]bool{false, true, true}, known(elsewhere))
}

func sharedSource(source string) string { return strings.ReplaceAll(source, "'PUBLISH'", "'SPUBLISH'") }

// The partition whose channel a heartbeat comes back in is one like the others: what happens to its slot does not touch them.
func TestOnAClusterTheSlotOfTheTokenIsRefused(t *testing.T) {
	t.Parallel()
	r := newClusterRig(t, onlyMasters, nil)
	home := r.master(0)
	var ears []*ear
	for p := range r.table.Count() {
		if r.master(p) == home {
			e, _ := r.listened(p)
			ears = append(ears, e)
		}
	}
	elsewhere, _ := r.apart(0)
	others := ears[1:]
	require.Greater(t, len(others), 2)
	r.report(others[0])
	reports := len(others[0].reports())
	m, err := r.servers.BeginMigration(r.slot(0), r.master(elsewhere)) // the first one is the anchor
	require.NoError(t, err)
	opened := mono.Now()
	for range 3 {
		r.proves("a proof of the others", others...)
	}
	require.Less(t, ears[0].lastProof(), opened)
	for _, report := range others[0].reports()[reports:] {
		require.NoError(t, report.Err)
	}
	_, err = m.MoveKeys(100) // there are fewer; a node with keys in it gives no slot up
	require.NoError(t, err)
	require.NoError(t, m.Finish())
	r.proves("a proof from the new node", ears...)
	for _, e := range others {
		require.Equal(t, 1, e.count("begin"))
	}
}

// Nor does it touch them that its slot becomes nobody's, which is said of it alone.
func TestOnAClusterTheSlotOfTheTokenIsNobodys(t *testing.T) {
	t.Parallel()
	r := newClusterRig(t, redisserver.ClusterOptions{Replicas: -1, Args: []string{"--cluster-require-full-coverage", "no"}}, nil)
	r.bound = time.Hour // a heartbeat every two seconds
	_, beside := r.apart(0)
	anchor, _ := r.listened(0)
	e, _ := r.listened(beside)
	for range 2 { // the next one expects nothing new
		r.report(anchor)
		r.report(e)
	}
	r.still(0)
	reports, home := len(e.reports()), r.master(0).Client()
	letGo := r.holdBeat(0)
	require.NoError(t, home.ClusterDelSlots(t.Context(), r.slot(0)).Err())
	letGo()
	r.proves("proofs of the other", e)
	r.proves("and one more", e)
	for _, report := range e.reports()[reports:] {
		require.NoError(t, report.Err)
	}
	require.Equal(t, "begin", e.plot())
	require.NoError(t, home.ClusterAddSlots(t.Context(), r.slot(0)).Err())
	r.proves("a proof when it has a node again", anchor)
}

// Without a node a member hears so all the same.
func TestOnAClusterAPartitionWithoutANode(t *testing.T) {
	t.Parallel()
	lost := errors.New("no topology")
	lie := &lying{err: lost}
	r := newClusterRigOn(t, calm.Run(t), func(to Router) Router { lie.Router = to; return lie })
	r.bound = time.Second
	lie.key = r.bus.parts[2].probe
	lie.times.Store(1 << 40)
	e, _ := r.listen(2)
	r.eventually("reports", func() bool { return len(e.reports()) > 3 })
	for _, b := range e.reports() {
		require.ErrorIs(t, b.Err, errNoNode)
		require.Empty(t, b.Node)
		require.NotZero(t, b.Sent)
	}
	require.ErrorIs(t, e.latest().Err, lost)
	lie.times.Store(0)
	r.proves("a proof", e)
}

func TestOnAClusterWhereConnectionsLead(t *testing.T) {
	t.Parallel()
	r := newClusterRigOn(t, calm.Run(t), nil)
	elsewhere, beside := r.apart(2)
	a, _ := r.listened(2)
	b, _ := r.listened(beside)
	c, _ := r.listened(elsewhere)
	node, far := r.master(2), r.master(elsewhere)
	info := func(n *redisserver.Node) string {
		return infoField(n.Client().Info(t.Context(), "replication").Val(), "master_replid")
	}
	eventually(t, "known", func() bool { id, known := r.bus.Server(node.Addr()); return known && id == info(node) })
	require.True(t, r.bus.Reached(node.Addr(), info(node)))
	require.True(t, r.bus.Reached("nobody:1", "x"))
	_, known := r.bus.Server("nobody:1")
	require.False(t, known)
	before, redials := r.report(a).Version, r.nodes.redialled(node.Addr())

	require.False(t, r.bus.Reached(node.Addr(), info(far)))
	require.Greater(t, r.nodes.redialled(node.Addr()), redials)
	require.Zero(t, r.nodes.redialled(far.Addr()))
	r.proves("a proof", a, b, c)
	eventually(t, "known again", func() bool { id, known := r.bus.Server(node.Addr()); return known && id == info(node) })
	require.Equal(t, 1, c.count("begin"))
	require.Equal(t, before, r.report(a).Version)

	// While nobody knows the server a connection leads elsewhere, and something may be written there.
	s, id := r.bus.shardOf(2), info(far)
	<-s.beating // a heartbeat would make it known
	s.whereabouts.doubt()
	reached := r.bus.Reached(node.Addr(), id)
	s.beating <- struct{}{}
	require.True(t, reached)
	moved := func(e *ear) bool { return slices.ContainsFunc(e.reports(), func(b BeatReport) bool { return b.Moved }) }
	r.eventually("all partitions of the node are told", func() bool { return moved(a) && moved(b) })
	require.False(t, moved(c))
	eventually(t, "known again", func() bool { id, known := r.bus.Server(node.Addr()); return known && id == info(node) })
}

func (c *Cluster) shardOf(p int) *shard { return c.parts[p].home.Load() }

func infoField(info, name string) string {
	_, rest, _ := strings.Cut(info, name+":")
	value, _, _ := strings.Cut(rest, "\r")
	return value
}

// Nothing is expected of a server that is not the one of the partition's last heartbeat.
func TestOnAClusterWhatIsExpectedOfANode(t *testing.T) {
	t.Parallel()
	r := newClusterRigOn(t, calm.Run(t), nil)
	const p = 2
	e, _ := r.listened(p)
	r.report(e)
	r.report(e)
	s := r.bus.shardOf(p)
	<-s.beating // no heartbeat meanwhile
	defer func() { s.beating <- struct{}{} }()
	steady := func() bool {
		pulses, _ := s.list()
		require.Len(t, pulses, 1)
		return pulses[0].steady
	}
	last := &r.bus.parts[p].history
	change := func(h *history, f func()) bool {
		r.bus.mu.Lock()
		before := *h
		f()
		r.bus.mu.Unlock()
		defer func() {
			r.bus.mu.Lock()
			defer r.bus.mu.Unlock()
			*h = before
		}()
		return steady()
	}
	require.True(t, steady())
	require.False(t, change(last, func() { last.server.id = strings.Repeat("0", 40) }))
	require.False(t, change(last, func() { last.server.node = "another:1" }))
	require.False(t, change(last, func() { last.strayed = true }))
	require.False(t, change(last, func() { last.failing = 1 }))
	node := &s.berth.history
	require.False(t, change(node, func() { node.server.id = "" }))
	require.False(t, change(node, func() { node.strayed = true }))
	require.False(t, change(node, func() { node.failing = 1 }))
	require.True(t, steady())
}

// A heartbeat's scripts may have reached different servers, where an address leads to several: then no partition of the node is known
// to be on the one that the last of them has found.
func TestOnAClusterServersDifferWithinAHeartbeat(t *testing.T) {
	t.Parallel()
	r := newClusterRigOn(t, calm.Run(t), nil)
	_, beside := r.apart(2)
	first, last := min(2, beside), max(2, beside) // the order of a heartbeat's scripts
	a, _ := r.listened(first)
	b, _ := r.listened(last)
	r.report(a)
	r.report(b)
	node := r.master(first)
	redials := r.nodes.redialled(node.Addr())
	moved := func(e *ear) bool { return slices.ContainsFunc(e.reports(), func(b BeatReport) bool { return b.Moved }) }
	require.False(t, moved(a) || moved(b))

	id := []byte("$40\r\n" + infoField(node.Client().Info(t.Context(), "replication").Val(), "master_replid") + "\r\n")
	foreign := []byte("$40\r\n" + strings.Repeat("0", 40) + "\r\n")
	var once sync.Once
	lie := func(reply []byte) []byte {
		if bytes.Count(reply, id) == 2 { // both partitions' replies, the first one's first
			once.Do(func() { reply = bytes.Replace(reply, id, foreign, 1) })
		}
		return reply
	}
	r.wire.mu.Lock()
	for _, c := range r.wire.conns {
		if c.RemoteAddr().String() == node.Addr() && !c.subscribed.Load() {
			c.edit.Store(&lie)
		}
	}
	r.wire.mu.Unlock()
	s := r.bus.shardOf(first)
	<-s.beating // the next one finds both
	goOn := sync.OnceFunc(func() { s.beating <- struct{}{} })
	defer goOn()
	for _, p := range []int{first, last} { // what is not as expected is found out by beat.lua
		require.NoError(t, r.rdb.HDel(t.Context(), r.key(p, "instances"), r.bus.ID()).Err())
	}
	goOn()
	r.bus.Kick(first)
	r.eventually("all partitions of the node are told", func() bool { return moved(a) && moved(b) })
	require.Greater(t, r.nodes.redialled(node.Addr()), redials)
	r.proves("proofs", a, b)
	eventually(t, "known again", func() bool { _, known := r.bus.Server(node.Addr()); return known })
}
