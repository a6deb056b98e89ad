package pubsub

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
)

// settles waits for Settle and returns how long it took.
func (r *clusterRig) settles(p int) time.Duration {
	r.Helper()
	began := time.Now()
	require.NoError(r, r.bus.Settle(r.Context(), r.topic(p, r.channel(p), nil), patience))
	return time.Since(began)
}

// registered waits until the instance has been in a partition's registry for a heartbeat, and then for as long as it takes for that
// to count.
func (r *clusterRig) registered(p int) {
	r.Helper()
	r.eventually("registered", func() bool { _, ok := r.since(p); return ok })
	registers := &r.bus.parts[p].registers
	registers.mu.Lock()
	defer registers.mu.Unlock()
	one := registers.of[r.key(p, "instances")]
	one.since -= int64(r.bound)
	registers.of[r.key(p, "instances")] = one
}

func (r *clusterRig) since(p int) (at int64, ok bool) {
	one, ok := r.bus.parts[p].registers.find(r.key(p, "instances"))
	return one.since, ok
}

func TestOnAClusterSettle(t *testing.T) {
	t.Parallel()
	r := newClusterRigOn(t, calm.Run(t), nil)
	r.bound = 20 * time.Second
	const early = 10 * time.Second // where it takes milliseconds
	other := r.another()
	const p = 2
	elsewhere, beside := r.apart(p)
	for _, q := range []int{p, elsewhere, beside} {
		r.listened(q)
		other.listened(q)
		r.registered(q)
	}
	for _, q := range []int{p, elsewhere, beside} {
		require.Less(t, r.settles(q), early, "all acknowledge at once")
	}

	// Somebody who is in no registry hears it as well.
	foreign := r.master(p).Client()
	ps := foreign.SSubscribe(t.Context(), r.channel(p))
	_, err := ps.Receive(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	require.ErrorIs(t, r.bus.Settle(ctx, r.topic(p, r.channel(p), nil), time.Second), context.DeadlineExceeded)
	require.Less(t, r.settles(elsewhere), early)
	require.NoError(t, ps.Close())
	r.eventually("it is gone", func() bool {
		return foreign.PubSubShardNumSub(t.Context(), r.channel(p)).Val()[r.channel(p)] == 2
	})
	require.Less(t, r.settles(p), early)
}

func TestOnAClusterSettleWaitsForOneThatDoesNotHear(t *testing.T) {
	t.Parallel()
	r := newClusterRigOn(t, calm.Run(t), nil)
	deaf := r.another()
	const p = 2
	elsewhere, _ := r.apart(p)
	for _, q := range []int{p, elsewhere} {
		r.listened(q)
		deaf.listened(q)
		r.registered(q)
	}
	node := r.master(p).Addr()
	for _, c := range deaf.wire.subscriptions() {
		if c.RemoteAddr().String() == node {
			c.vanish()
		}
	}
	require.Less(t, r.settles(elsewhere), r.bound, "another node's do not wait for it")
	require.GreaterOrEqual(t, r.settles(p), r.bound)
}

// The marks and the resignations are in the partition's registry.
func TestOnAClusterWhoIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	r := newClusterRigOn(t, calm.Run(t), nil)
	goes := r.another()
	const p = 2
	_, beside := r.apart(p)
	r.listened(p)
	_, leave := goes.listened(p)
	_, leaveToo := goes.listenTo(p, r.key(p, "bus:1"))
	goes.listened(beside)
	field := func(q int) string { return r.rdb.HGet(t.Context(), r.key(q, "instances"), goes.bus.ID()).Val() }
	word := field(p)
	require.NotEmpty(t, word)

	r.bus.forum(r.bus.parts[p]).mark(r.key(p, "instances"), []registered{{goes.bus.ID(), word}})
	eventually(t, "marked, and registered again", func() bool { w := field(p); return w != word && w != "" && w[0] != '-' })

	topic := goes.topic(p, r.channel(p), nil)
	leave()
	goes.bus.Resign(t.Context(), topic)
	require.NotEmpty(t, field(p), "another member is left")
	leaveToo()
	goes.bus.Resign(t.Context(), topic)
	require.Empty(t, field(p))
	require.NotEmpty(t, field(beside))
	goes.bus.Resign(t.Context(), topic)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	goes.bus.Resign(ctx, goes.topic(beside, r.channel(beside), nil))
	require.NotEmpty(t, field(beside))
}

// A node that takes a slot over perhaps has not everybody's registration.
func TestOnAClusterARegistryThatHasMoved(t *testing.T) {
	t.Parallel()
	r := newClusterRig(t, onlyMasters, nil)
	const p = 2
	elsewhere, beside := r.apart(p)
	e, _ := r.listened(p)
	r.listened(beside)
	stays, _ := r.since(beside)
	moved := mono.Now()
	require.NoError(t, r.servers.Migrate(r.slot(p), r.master(elsewhere)))
	r.proves("a proof", e)
	since, _ := r.since(p)
	require.Greater(t, since, moved)
	require.True(t, r.rdb.HExists(t.Context(), r.key(p, "instances"), r.bus.ID()).Val())
	same, _ := r.since(beside)
	require.Equal(t, stays, same)
}

// Without a session something may have been published that is not heard.
func TestOnAClusterAcknowledgementsOutsideASession(t *testing.T) {
	t.Parallel()
	r := newClusterRig(t, onlyMasters, nil)
	const p, asker = 2, "0123456789abcdef"
	elsewhere, _ := r.apart(p)
	e, _ := r.listened(p)
	node := r.master(p).Client()
	ps := node.SSubscribe(t.Context(), r.bus.parts[p].inboxOf(asker))
	defer func() { _ = ps.Close() }()
	_, err := ps.Receive(t.Context())
	require.NoError(t, err)
	acks := ps.Channel()
	ask := func(token string) {
		require.EqualValues(t, 1, node.SPublish(t.Context(), r.channel(p), Message{Op: Ask, Sender: asker, Token: token}.Encode()).Val())
	}
	acknowledged := func() string {
		m, err := Parse((<-acks).Payload)
		require.NoError(t, err)
		require.Equal(t, Ack, m.Op)
		require.Equal(t, r.bus.ID(), m.Sender)
		return m.Token
	}
	ask("first")
	require.Equal(t, "first", acknowledged())

	m, err := r.servers.BeginMigration(r.slot(p), r.master(elsewhere))
	require.NoError(t, err)
	r.eventually("the end", func() bool { return e.count("end") == 1 })
	ask("second")
	require.EqualValues(t, 1, node.SPublish(t.Context(), r.channel(p), inv("mark").Encode()).Val())
	r.eventually("it has been heard, outside a session", func() bool { return e.count("message") == 1 })
	require.NoError(t, m.Abort())
	r.eventually("a session", func() bool { return e.count("begin") == 2 })
	ask("third")
	require.Equal(t, "third", acknowledged())
}

// What one node was found to have is not known of the next one before that has taken a heartbeat.
func TestOnAClusterARegistryThatIsTakenOver(t *testing.T) {
	t.Parallel()
	r := newClusterRig(t, onlyMasters, nil)
	const p = 2
	elsewhere, _ := r.apart(p)
	e, _ := r.listened(p)
	r.listened(elsewhere)
	known := func() bool {
		_, _, ok := r.bus.parts[p].registers.current(r.key(p, "instances"))
		return ok
	}
	r.report(e)
	require.True(t, known())
	from, to := r.bus.shardOf(p), r.bus.shardOf(elsewhere)
	<-from.beating // no heartbeat meanwhile, of either
	<-to.beating
	goOn := sync.OnceFunc(func() { from.beating <- struct{}{}; to.beating <- struct{}{} })
	defer goOn()
	require.True(t, known())
	require.NoError(t, r.servers.Migrate(r.slot(p), r.master(elsewhere)))
	r.eventually("it is on the new node", func() bool { return r.bus.shardOf(p) == to })
	require.False(t, known())
	goOn()
	r.eventually("known again", known)
}
