package pubsub

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/redisserver"
)

// What came with a slot is not known to be all that was confirmed where it was: the partition has a new version, of all instances.
func TestOnAClusterAVersionDoesNotMoveWithItsSlot(t *testing.T) {
	t.Parallel()
	r := newClusterRig(t, onlyMasters, nil)
	r.bound = 6 * time.Second // a heartbeat every two seconds: most probably none is refused while the slot is on its way
	other := r.another()
	const p = 2
	elsewhere, beside := r.apart(p)
	a, _ := r.listened(p)
	b, _ := other.listened(p)
	staying, _ := r.listened(beside)
	there, _ := r.listened(elsewhere)
	before, stays, theirs := r.report(a).Version, r.report(staying).Version, r.report(there).Version
	require.Equal(t, before, r.report(b).Version)
	r.report(a)
	other.report(b)
	r.still(p)
	other.still(p)

	require.NoError(t, r.servers.Migrate(r.slot(p), r.master(elsewhere)))
	r.eventually("sessions on the new node", func() bool { return a.count("begin") == 2 && b.count("begin") == 2 })
	r.proves("a proof from the new node", a, b)
	after := r.report(a).Version
	require.NotEqual(t, before, after)
	require.Equal(t, after, r.report(b).Version)
	require.Equal(t, after, r.report(b).Version, "it is made once")
	require.Equal(t, after, r.report(a).Version)
	moved := func(b BeatReport) bool { return b.Moved }
	for _, e := range []*ear{a, b} {
		all := e.reports()
		i := slices.IndexFunc(all, moved)
		require.GreaterOrEqual(t, i, 0)
		require.Equal(t, r.master(elsewhere).Addr(), all[i].Node)
		require.False(t, slices.ContainsFunc(all[i+1:], moved), "and said once")
	}
	require.Equal(t, stays, r.report(staying).Version)
	require.Equal(t, theirs, r.report(there).Version)
	require.False(t, slices.ContainsFunc(staying.reports(), moved))
	require.False(t, slices.ContainsFunc(there.reports(), moved))
}

// A replica that has everything goes on where its master ended, for all partitions of the node; one that lacks something does not.
func TestOnAClusterAVersionAndTheHeirOfItsNode(t *testing.T) {
	t.Parallel()
	for name, lacks := range map[string]bool{"has everything": false, "lacks writes": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newClusterRig(t, redisserver.ClusterOptions{}, nil)
			const p = 2
			elsewhere, beside := r.apart(p)
			a, _ := r.listened(p)
			b, _ := r.listened(beside)
			other, _ := r.listened(elsewhere)
			before := []string{r.report(a).Version, r.report(b).Version, r.report(other).Version}
			heir := r.servers.Replicas(r.master(p))[0]
			promote := r.servers.Failover
			if lacks {
				r.loseMaster(heir)
				promote = r.servers.Takeover
				require.NoError(t, r.rdb.Set(t.Context(), r.key(p, "entry"), "v", time.Hour).Err())
			}
			for range 2 {
				r.report(a)
				r.report(b)
			}
			require.NoError(t, promote(heir))
			r.eventually("reports from the heir", func() bool {
				return a.latest().Node == heir.Addr() && a.latest().Err == nil && b.latest().Node == heir.Addr() && b.latest().Err == nil
			})
			r.proves("proofs", a, b, other)
			after := []string{r.report(a).Version, r.report(b).Version, r.report(other).Version}
			require.Equal(t, before[2], after[2])
			for i, e := range []*ear{a, b} {
				if lacks {
					require.NotEqual(t, before[i], after[i])
				} else {
					require.Equal(t, before[i], after[i])
				}
				all := e.reports()
				first := slices.IndexFunc(all, func(b BeatReport) bool { return b.Node == heir.Addr() && b.Err == nil })
				require.True(t, all[first].Moved)
				require.Equal(t, !lacks, all[first].Kept)
			}
			require.False(t, slices.ContainsFunc(other.reports(), func(b BeatReport) bool { return b.Moved || b.Kept }))
		})
	}
}

// loseMaster ends a replica's link to its master for good.
func (r *clusterRig) loseMaster(replica *redisserver.Node) {
	r.Helper()
	rdb := replica.Client()
	require.NoError(r, rdb.ConfigSet(r.Context(), "masterauth", "wrong").Err())
	require.NoError(r, rdb.Do(r.Context(), "CLIENT", "KILL", "TYPE", "master").Err())
	r.eventually("the link is down", func() bool {
		return strings.Contains(rdb.Info(r.Context(), "replication").Val(), "master_link_status:down")
	})
}

// A node that is back without its keys is another server.
func TestOnAClusterANodeIsBackWithNothing(t *testing.T) {
	t.Parallel()
	r := newClusterRig(t, redisserver.ClusterOptions{
		Replicas: -1, Args: []string{"--cluster-require-full-coverage", "no"},
	}, nil)
	const p = 2
	elsewhere, _ := r.apart(p)
	lost, _ := r.listened(p)
	other, _ := r.listened(elsewhere)
	before, stays := r.report(lost).Version, r.report(other).Version
	node := r.master(p)
	id, known := r.bus.Server(node.Addr())
	require.True(t, known)

	require.NoError(t, node.Kill())
	reports := len(lost.reports())
	r.eventually("heartbeats fail", func() bool { return len(lost.reports()) > reports+3 && lost.latest().Err != nil })
	require.Equal(t, node.Addr(), lost.latest().Node)
	_, known = r.bus.Server(node.Addr())
	require.False(t, known)
	require.NoError(t, node.Restart())
	r.proves("a proof when it is back", lost, other)
	require.NotEqual(t, before, r.report(lost).Version)
	require.True(t, slices.ContainsFunc(lost.reports(), func(b BeatReport) bool { return b.Moved }))
	require.Equal(t, stays, r.report(other).Version)
	now, known := r.bus.Server(node.Addr())
	require.True(t, known)
	require.NotEqual(t, id, now)
}
