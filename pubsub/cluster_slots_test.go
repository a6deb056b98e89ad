package pubsub

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/tests/redisserver"
)

func TestOnAClusterASlotIsMigratedUnderLoad(t *testing.T) {
	t.Parallel()
	r := newClusterRig(t, onlyMasters, nil)
	const p = 2
	elsewhere, beside := r.apart(p)
	moving, _ := r.listened(p)
	staying, _ := r.listened(beside)
	other, _ := r.listened(elsewhere)
	talk, stop := r.talk(p, beside, elsewhere)
	home := r.master(p)
	for i := range 3 {
		require.NoError(t, r.servers.Migrate(r.slot(p), r.master(elsewhere)))
		r.eventually("a new session", func() bool { return moving.count("begin") == 2*i+2 })
		r.proves("a proof from the new node", moving, staying)
		require.NoError(t, r.servers.Migrate(r.slot(p), home))
		r.eventually("a new session", func() bool { return moving.count("begin") == 2*i+3 })
		r.proves("a proof from the old one", moving, other)
	}
	stop(p, beside, elsewhere)
	r.proves("a proof of all of it", moving, staying, other)

	require.Positive(t, moving.judge(talk))
	require.Positive(t, staying.judge(talk))
	require.Positive(t, other.judge(talk))
	require.Equal(t, 6, moving.count("end"))
	require.Equal(t, 1, staying.count("begin"), "the rest of the node goes on")
	require.Equal(t, 1, other.count("begin"))
}

// While a slot is being migrated what is invalidated in it may be published on either node.
func TestOnAClusterThereIsNoProofWhileASlotIsMigrated(t *testing.T) {
	t.Parallel()
	r := newClusterRig(t, onlyMasters, nil)
	const p = 2
	elsewhere, beside := r.apart(p)
	moving, _ := r.listened(p)
	staying, _ := r.listened(beside)

	m, err := r.servers.BeginMigration(r.slot(p), r.master(elsewhere))
	require.NoError(t, err)
	opened := mono.Now()
	talk, stop := r.talk(p, beside)
	for range 3 {
		r.proves("a proof of the other slots", staying)
	}
	require.Less(t, moving.lastProof(), opened)
	eventually(t, "the member hears why", func() bool {
		err := moving.latest().Err // TRYAGAIN while keys of the partition are still here
		return err != nil && isElsewhere(err)
	})
	r.eventually("something is said on the other node", func() bool { return len(talk.of(p)) > 0 })
	require.NoError(t, m.Abort())
	r.proves("a proof again", moving, staying)
	stop(beside)
	r.proves("a proof of all of it", moving, staying)
	require.Positive(t, staying.judge(talk))
	moving.judge(talk) // what was said on the other node, nobody has heard
	require.Equal(t, 1, staying.count("begin"))
	require.Equal(t, "begin end begin", strings.Join(slices.DeleteFunc(strings.Fields(moving.plot()), func(w string) bool { return strings.HasPrefix(w, "inv") }), " "))
}

// Between two heartbeats a slot goes to another node and comes back. Both of them are taken, and what was published there was
// not heard: the node itself has to say that it had given up the slot.
func TestOnAClusterASlotIsAwayForAMoment(t *testing.T) {
	t.Parallel()
	r := newClusterRig(t, onlyMasters, nil)
	r.bound = time.Hour // a heartbeat every two seconds
	const p = 2
	elsewhere, _ := r.apart(p)
	home, away := r.master(p), r.master(elsewhere)
	require.Same(t, home, r.master(0))
	beside, _ := r.listened(0) // in whose channel heartbeats come back
	e, _ := r.listened(p)
	r.proves("a heartbeat has just been taken", e)
	r.still(p)
	talk := &talk{said: make(map[int][]saying)}

	require.NoError(t, r.servers.Migrate(r.slot(p), away))
	r.eventually("said there", func() bool { return r.say(t.Context(), talk, p, "there") == nil })
	require.NoError(t, r.servers.Migrate(r.slot(p), home))

	r.proves("a proof of later", e)
	r.proves("and one more", e)
	e.judge(talk)
	require.Positive(t, e.count("end"))
	require.Equal(t, 1, beside.count("begin"))
}

// Slots move to and fro, masters are replaced and subscriptions killed, in an order that is another each time.
func TestOnAClusterThatIsNeverStill(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	r := newClusterRig(t, redisserver.ClusterOptions{}, nil)
	var ears []*ear
	var all []int
	for p := range r.table.Count() {
		e, _ := r.listen(p)
		ears = append(ears, e)
		all = append(all, p)
	}
	r.proves("a proof in each partition", ears...)
	talk, stop := r.talk(all...)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	for range 30 {
		p, q := random.IntN(len(ears)), random.IntN(len(ears))
		to := r.master(q)
		switch random.IntN(4) {
		case 0, 1: // refused while the nodes do not agree yet who is a master
			r.eventually("migrated", func() bool {
				to, err := r.servers.Master(r.slot(q))
				return err == nil && r.servers.Migrate(r.slot(p), to) == nil
			})
		case 2:
			r.eventually("a failover", func() bool { // nor who replicates whom
				to, err := r.servers.Master(r.slot(q))
				if err != nil {
					return false
				}
				replicas := r.servers.Replicas(to)
				return len(replicas) > 0 && r.servers.Failover(replicas[0]) == nil
			})
		case 3:
			require.NoError(t, to.Client().Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err())
		}
		if random.IntN(2) == 0 {
			require.NoError(t, r.servers.AwaitWhole())
		}
	}
	require.NoError(t, r.servers.AwaitWhole())
	stop(all...)
	r.proves("a proof of all of it", ears...)
	judged, ended := 0, 0
	for _, e := range ears {
		judged += e.judge(talk)
		ended += e.count("end")
	}
	t.Logf("%d messages were proven, %d sessions ended", judged, ended)
	require.Greater(t, judged, 1000)
	require.Positive(t, ended)
}
