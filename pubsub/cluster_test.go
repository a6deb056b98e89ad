package pubsub

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/tests/redisserver"
)

var onlyMasters = redisserver.ClusterOptions{Replicas: -1}

func TestOnAClusterMembersOfEveryPartitionHearAndHaveProof(t *testing.T) {
	t.Parallel()
	r := newClusterRig(t, onlyMasters, nil)
	var ears []*ear
	for p := range r.table.Count() {
		e, _ := r.listen(p)
		ears = append(ears, e)
	}
	talk, stop := r.talk(0, 5, 15)
	r.proves("a proof in each partition", ears...)
	eventually(t, "messages", func() bool { return ears[0].count("message") > 100 && ears[5].count("message") > 100 })
	stop(0, 5, 15)
	r.proves("a proof of all of it", ears...)

	for _, p := range []int{0, 5, 15} {
		require.Positive(t, ears[p].judge(talk))
		require.Equal(t, 1, ears[p].count("begin"))
	}
	require.Zero(t, ears[1].count("message"))
	require.Len(t, r.wire.subscriptions(), 3, "one connection for each master")
}

func TestOnAClusterATopicThatIsLeft(t *testing.T) {
	t.Parallel()
	r := newClusterRig(t, onlyMasters, nil)
	node := r.master(3).Client()
	subscribers := func() int64 { return node.PubSubShardNumSub(t.Context(), r.channel(3)).Val()[r.channel(3)] }
	other, _ := r.listened(4)

	_, leave := r.listened(3)
	require.EqualValues(t, 1, subscribers())
	leave()
	eventually(t, "unsubscribed", func() bool { return subscribers() == 0 })
	for range 20 { // and in quick succession
		_, leave = r.listen(3)
		leave()
	}
	e, _ := r.listened(3)
	second, leave := r.listen(3)
	r.eventually("a proof for one who comes later", second.proven)
	leave()
	require.NoError(t, r.rdb.SPublish(t.Context(), r.channel(3), inv("1").Encode()).Err())
	eventually(t, "a message", func() bool { return e.count("message") == 1 })
	require.Zero(t, second.count("message"))
	require.Equal(t, "begin", other.plot())
}

// That a heartbeat comes back says nothing of a slot before it is known that it was taken there.
func TestOnAClusterAHeartbeatThatComesBackBeforeItsReply(t *testing.T) {
	t.Parallel()
	r := newClusterRig(t, onlyMasters, nil)
	const p = 2
	require.Same(t, r.master(p), r.master(0))
	r.listened(0) // in whose channel heartbeats come back
	moving, _ := r.listened(p)
	elsewhere, _ := r.apart(p)
	m, err := r.servers.BeginMigration(r.slot(p), r.master(elsewhere))
	require.NoError(t, err)
	r.eventually("the end", func() bool { return moving.count("end") == 1 })
	require.NoError(t, m.Abort())
	r.proves("a proof again", moving)

	node := r.master(p).Addr()
	s := r.bus.shardOf(p)
	<-s.beating // the next heartbeat is sent when the slot is on its way
	goOn := sync.OnceFunc(func() { s.beating <- struct{}{} })
	defer goOn()
	var letGo []func()
	r.wire.mu.Lock()
	for _, c := range r.wire.conns {
		if c.RemoteAddr().String() == node && !c.subscribed.Load() {
			letGo = append(letGo, c.holdReads())
		}
	}
	r.wire.mu.Unlock()
	release := func() {
		for _, f := range letGo {
			f()
		}
	}
	defer release()
	m, err = r.servers.BeginMigration(r.slot(p), r.master(elsewhere))
	require.NoError(t, err)
	opened := mono.Now()
	goOn()
	heard := func() bool {
		r.bus.mu.Lock()
		defer r.bus.mu.Unlock()
		return r.bus.parts[p].topics[r.channel(p)].heard > opened
	}
	r.bus.Kick(p)
	r.eventually("a heartbeat comes back, or is refused", func() bool { return heard() || moving.count("end") == 2 })
	require.Less(t, moving.lastProof(), opened)
	t.Logf("it came back first: %v", heard())
	release()
	require.NoError(t, m.Abort())
	r.proves("a proof again", moving)
}

// Joining and leaving need not wait for what Redis says to it.
func TestOnAClusterATopicThatComesAndGoes(t *testing.T) {
	t.Parallel()
	r := newClusterRig(t, onlyMasters, nil)
	const p = 2
	stays, _ := r.listened(p)
	for range 50 {
		_, leave := r.listenTo(p, r.key(p, "bus:1"))
		leave()
	}
	e, _ := r.listenTo(p, r.key(p, "bus:1"))
	r.proves("a proof", e, stays)
	require.NoError(t, r.rdb.SPublish(t.Context(), r.key(p, "bus:1"), inv("1").Encode()).Err())
	eventually(t, "a message", func() bool { return e.count("message") == 1 })
	require.Equal(t, "begin", stays.plot())
	require.Equal(t, "begin inv(1)", e.plot())
}

// lying is a router that names the wrong node of one slot.
type lying struct {
	Router
	key   string
	wrong string // whose node it names instead
	err   error  // or why it names none
	times atomic.Int64
}

func (l *lying) MasterForKey(ctx context.Context, key string) (*redis.Client, error) {
	if key == l.key && l.times.Add(-1) >= 0 {
		if l.err != nil {
			return nil, l.err
		}
		key = l.wrong
	}
	return l.Router.MasterForKey(ctx, key)
}

// What one slot is refused for does not touch the others of the node.
func TestOnAClusterATopologyThatIsOld(t *testing.T) {
	t.Parallel()
	lie := &lying{}
	r := newClusterRig(t, onlyMasters, func(to Router) Router { lie.Router = to; return lie })
	const p = 2
	elsewhere, _ := r.apart(p)
	lie.key, lie.wrong = r.bus.parts[p].probe, r.bus.parts[elsewhere].probe
	lie.times.Store(5)
	other, _ := r.listened(elsewhere)
	misled, _ := r.listened(p)

	require.Negative(t, lie.times.Load())
	require.Equal(t, "begin", misled.plot())
	require.Equal(t, "begin", other.plot())
	refused := slices.ContainsFunc(misled.reports(), func(b BeatReport) bool { return b.Err != nil })
	t.Logf("a heartbeat was refused first: %v", refused)
}

func TestOnAClusterASubscriptionThatIsKilled(t *testing.T) {
	t.Parallel()
	r := newClusterRig(t, onlyMasters, nil)
	const p = 2
	elsewhere, beside := r.apart(p)
	killed, _ := r.listened(p)
	with, _ := r.listened(beside)
	other, _ := r.listened(elsewhere)
	talk, stop := r.talk(p, beside, elsewhere)
	for i := range 5 {
		require.EqualValues(t, 1, r.master(p).Client().Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Val())
		r.eventually("the end", func() bool { return killed.count("end") == i+1 && with.count("end") == i+1 })
		r.proves("a proof", killed, with, other)
	}
	stop(p, beside, elsewhere)
	r.proves("a proof of all of it", killed, with, other)
	require.Positive(t, killed.judge(talk))
	require.Positive(t, other.judge(talk))
	require.Equal(t, 1, other.count("begin"))
}

// A connection on which nothing arrives any more, as behind a link that has died: the node goes on to take heartbeats.
func TestOnAClusterASubscriptionThatGoesSilent(t *testing.T) {
	t.Parallel()
	r := newClusterRig(t, onlyMasters, nil)
	const p = 2
	elsewhere, _ := r.apart(p)
	silent, _ := r.listened(p)
	other, _ := r.listened(elsewhere)
	talk, stop := r.talk(p, elsewhere)
	node := r.master(p).Addr()
	for _, c := range r.wire.subscriptions() {
		if c.RemoteAddr().String() == node {
			c.mute.Store(true)
		}
	}
	r.eventually("the end", func() bool { return silent.count("end") == 1 })
	require.ErrorIs(t, silent.of("end")[0].err, errSilence)
	r.proves("a proof", silent, other)
	stop(p, elsewhere)
	r.proves("a proof of all of it", silent, other)
	require.Positive(t, silent.judge(talk))
	require.Positive(t, other.judge(talk))
	require.Equal(t, 1, other.count("begin"))
}

// A heartbeat that was sent before a member joined has not registered it, so it is no proof for that one.
func TestOnAClusterAHeartbeatFromBeforeAMemberJoined(t *testing.T) {
	t.Parallel()
	r := newClusterRigOn(t, calm.Run(t), nil)
	r.bound = 6 * time.Second // a heartbeat every two seconds
	const p = 2
	e, _ := r.listened(p)
	r.report(e)
	letGo := r.holdBeat(p)
	late, _ := r.listen(p)
	require.Equal(t, 1, late.count("begin"))
	proofs := e.count("prove")
	letGo()
	r.eventually("proofs", func() bool { return e.count("prove") > proofs && late.proven() })
	late.mu.Lock()
	defer late.mu.Unlock()
	i := slices.IndexFunc(late.lived, func(l lived) bool { return l.what == "prove" })
	require.GreaterOrEqual(t, late.lived[i].when, late.reports()[0].Received, "its own heartbeat comes first")
}

// The clients of a node that has had no partition for a while are not needed.
func TestOnAClusterANodeThatIsNotUsed(t *testing.T) {
	t.Parallel()
	r := newClusterRig(t, onlyMasters, nil)
	r.bus.idleFor = 100 * time.Millisecond
	const p = 2
	e, leave := r.listened(p)
	node := r.master(p)
	gone := func() []string { r.nodes.mu.Lock(); defer r.nodes.mu.Unlock(); return slices.Clone(r.nodes.went) }
	r.proves("a proof", e)
	require.Empty(t, gone())
	leave()
	eventually(t, "it is given up", func() bool { return slices.Equal([]string{node.Addr()}, gone()) })
	_, known := r.bus.Server(node.Addr())
	require.False(t, known)

	e, _ = r.listened(p)
	r.proves("a proof with another client", e)
	elsewhere, _ := r.apart(p)
	require.NoError(t, r.servers.Migrate(r.slot(p), r.master(elsewhere)))
	r.proves("a proof of the new node", e)
	eventually(t, "the old one is given up", func() bool { return slices.Equal([]string{node.Addr(), node.Addr()}, gone()) })
	r.proves("a proof", e)
}

// Close comes at any moment, whatever goes on.
func TestOnAClusterCloseDuringEverything(t *testing.T) {
	t.Parallel()
	r := newClusterRig(t, redisserver.ClusterOptions{Replicas: -1}, nil)
	stop := make(chan struct{})
	var moves = make(chan struct{})
	go func() {
		defer close(moves)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			masters := r.servers.Masters()
			_ = r.servers.Migrate(r.slot(i%16), masters[(i/16+i)%len(masters)])
			_ = masters[i%len(masters)].Client().Do(context.Background(), "CLIENT", "KILL", "TYPE", "pubsub").Err()
		}
	}()
	defer func() { close(stop); <-moves }()
	for i := range 20 {
		one := r.another()
		var ears []*ear
		for p := range r.table.Count() {
			e, _ := one.listen(p)
			ears = append(ears, e)
		}
		settled := make(chan error, 1)
		go func() { settled <- one.bus.Settle(context.Background(), one.topic(2, r.channel(2), nil), time.Second) }()
		if i%2 == 0 {
			one.eventually("a proof", ears[i%16].proven)
		} else {
			time.Sleep(time.Duration(i) * time.Millisecond) // any moment will do
		}
		one.bus.Stop()
		one.nodes.close()
		began := time.Now()
		one.bus.Close()
		require.Less(t, time.Since(began), patience)
		err := <-settled
		require.True(t, err == nil || errors.Is(err, ErrClosed), err)
		_, err = one.bus.Join(one.topic(1, "x", nil))
		require.ErrorIs(t, err, ErrClosed)
		for _, e := range ears {
			require.Equal(t, e.count("begin"), e.count("end"))
		}
	}
}
