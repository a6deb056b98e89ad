package pubsub

import (
	"regexp"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/tests/redisserver"
)

func TestOnAClusterAFailover(t *testing.T) {
	t.Parallel()
	r := newClusterRig(t, redisserver.ClusterOptions{}, nil)
	const p = 2
	elsewhere, beside := r.apart(p)
	moved, _ := r.listened(p)
	with, _ := r.listened(beside)
	other, _ := r.listened(elsewhere)
	talk, stop := r.talk(p, beside, elsewhere)
	for i := range 2 {
		heir := r.servers.Replicas(r.master(p))[0]
		require.NoError(t, r.servers.Failover(heir))
		r.eventually("new sessions", func() bool { return moved.count("begin") >= i+2 && with.count("begin") >= i+2 })
		r.proves("proofs from the heir", moved, with, other)
		require.NoError(t, r.servers.AwaitWhole())
	}
	stop(p, beside, elsewhere)
	r.proves("a proof of all of it", moved, with, other)

	require.Positive(t, moved.judge(talk))
	require.Positive(t, with.judge(talk))
	require.Positive(t, other.judge(talk))
	require.Equal(t, 1, other.count("begin"))
}

func TestOnAClusterAMasterDies(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]func(*redisserver.Node) error{
		"killed": func(n *redisserver.Node) error { return n.Kill() },
		"paused": func(n *redisserver.Node) error { return n.Pause() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newClusterRig(t, redisserver.ClusterOptions{Args: []string{"--cluster-require-full-coverage", "no"}}, nil)
			const p = 2
			elsewhere, _ := r.apart(p)
			lost, _ := r.listened(p)
			other, _ := r.listened(elsewhere)
			talk, stop := r.talk(p, elsewhere)
			old := r.master(p)

			require.NoError(t, down(old))
			r.eventually("the end", func() bool { return lost.count("end") == 1 })
			r.proves("a proof from the heir", lost, other)
			stop(elsewhere)
			r.proves("a proof of all of it", lost, other)

			lost.judge(talk)
			require.Positive(t, other.judge(talk))
			require.Equal(t, 1, other.count("begin"), "one lost node does not blind the others")
			require.NotSame(t, old, r.master(p))
		})
	}
}

func TestOnAClusterAMasterDiesWithoutSuccessor(t *testing.T) {
	t.Parallel()
	r := newClusterRig(t, redisserver.ClusterOptions{
		Replicas: -1, Args: []string{"--cluster-require-full-coverage", "no"},
	}, nil)
	const p = 2
	elsewhere, _ := r.apart(p)
	lost, _ := r.listened(p)
	other, _ := r.listened(elsewhere)
	node := r.master(p)

	require.NoError(t, node.Kill())
	r.eventually("the end", func() bool { return lost.count("end") == 1 })
	for range 3 {
		r.proves("proofs of the others", other)
	}
	require.NoError(t, node.Restart())
	r.proves("a proof when it is back", lost, other)
	require.Equal(t, 1, other.count("begin"))
}

// A master that hears of no majority refuses writes, and takes messages as before.
func TestOnAClusterAMasterThatIsCutOffProvesNothing(t *testing.T) {
	t.Parallel()
	r := newClusterRig(t, redisserver.ClusterOptions{Replicas: -1, Links: true}, nil)
	const p = 2
	e, _ := r.listened(p)
	node := r.master(p)

	r.servers.Partition(node)
	r.eventually("it is down", func() bool {
		err := e.latest().Err
		return err != nil && redis.HasErrorPrefix(err, "CLUSTERDOWN")
	})
	down := mono.Now()
	published := func() int64 { return node.Client().SPublish(t.Context(), r.channel(p), inv("1").Encode()).Val() }
	r.eventually("it goes on to publish", func() bool { return published() == 1 })
	reports := len(e.reports())
	r.eventually("three more heartbeats", func() bool { return len(e.reports()) > reports+3 })
	require.Less(t, e.lastProof(), down)
	r.servers.Heal()
	r.proves("a proof again", e)
}

// unsubscribed is what a node says that gives up a slot.
var unsubscribed = regexp.MustCompile(`>3\r\n\$12\r\nsunsubscribe\r\n\$\d+\r\n[^\r]*\r\n(:\d+|_)\r\n`)

// A master that was replaced goes on to accept messages, and need not be heard to give its slots up: it refuses what writes.
func TestOnAClusterAFailoverOfWhichNothingIsHeard(t *testing.T) {
	t.Parallel()
	r := newClusterRig(t, redisserver.ClusterOptions{}, nil)
	const p = 2
	elsewhere, _ := r.apart(p)
	e, _ := r.listened(p)
	other, _ := r.listened(elsewhere)
	old := r.master(p)
	swallowed := atomic.Bool{}
	swallow := func(b []byte) []byte {
		out := unsubscribed.ReplaceAll(b, nil)
		if len(out) < len(b) {
			swallowed.Store(true)
		}
		return out
	}
	for _, c := range r.wire.subscriptions() {
		if c.RemoteAddr().String() == old.Addr() {
			c.edit.Store(&swallow)
		}
	}
	talk, stop := r.talk(p, elsewhere)
	require.NoError(t, r.servers.Failover(r.servers.Replicas(old)[0]))
	r.eventually("the end", func() bool { return e.count("end") > 0 })
	r.eventually("it was said", swallowed.Load) // a refusal may be read before
	require.ErrorContains(t, e.of("end")[0].err, "MOVED ")
	r.proves("a proof from the heir", e, other)
	stop(elsewhere)
	r.proves("a proof of all of it", e, other)
	e.judge(talk)
	require.Positive(t, other.judge(talk))
	require.Equal(t, 1, other.count("begin"))
}
