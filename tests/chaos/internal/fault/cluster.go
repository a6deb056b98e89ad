//go:build linux

package fault

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/tests/chaos/internal/arena"
	"github.com/tandemcache/tandem/tests/chaos/internal/proxy"
	"github.com/tandemcache/tandem/tests/redisserver"
)

// cluster are the faults of a Redis Cluster. They are mended when it is whole again, whoever is master then.
func cluster() []Fault {
	return []Fault{
		ofNodes("cluster-failover", Started, failover),
		ofNodes("cluster-master-killed", Started, succeeded(
			func(n *redisserver.Node) error { return n.Kill() }, func(n *redisserver.Node) error { return n.Restart() })),
		ofNodes("cluster-master-paused", Started, succeeded(
			func(n *redisserver.Node) error { return n.Pause() }, func(n *redisserver.Node) error { return n.Resume() })),
		ofNodes("cluster-master-lost-empty", Mending, lost(false)),
		ofNodes("cluster-master-lost-old", Mending, lost(true)),
		ofNodes("cluster-slots-migrated", Mending, migrate),
		ofNodes("cluster-bus-cut", Mending, part((*arena.Cluster).Partition)),
		ofNodes("cluster-nodes-parted", Mending, part((*arena.Cluster).Part)),
		{Name: "cluster-client-cut", Class: Network, Needs: arena.WithCluster, Start: cutClient},
		{
			Name: "cluster-split-brain", Class: Server, Bars: []Class{Process, Network, Load}, Needs: arena.WithCluster,
			Since: Mending, Span: failoverSpan, Start: silently(split),
		},
		{
			Name: "cluster-split-brain-acknowledged", Class: Server, Bars: []Class{Network}, Needs: arena.WithCluster,
			Since: Mending, Span: failoverSpan, Start: split,
			Gap: "a master acknowledges for cluster-node-timeout what only the side that loses has, and who could repeat it is on that side",
		},
	}
}

func ofNodes(name string, since Moment, s start) Fault {
	return Fault{Name: name, Class: Server, Needs: arena.WithCluster, Since: since, Span: failoverSpan, Start: s}
}

var errNoPair = errors.New("fault: the cluster has no master with a replica")

// pair returns a master and its replica.
func pair(a *arena.Arena, rng *rand.Rand) (master, replica *redisserver.Node, err error) {
	masters := a.Cluster.Masters()
	if len(masters) == 0 {
		return nil, nil, errNoPair
	}
	master = masters[rng.IntN(len(masters))]
	replicas := a.Cluster.Replicas(master)
	if len(replicas) == 0 {
		return nil, nil, errNoPair
	}
	return master, replicas[0], nil
}

func failover(_ context.Context, a *arena.Arena, rng *rand.Rand) (func() error, error) {
	_, heir, err := pair(a, rng)
	if err != nil {
		return nil, err
	}
	return a.Cluster.Whole, a.Cluster.Failover(heir)
}

// succeeded takes a master away, at least until its replica has taken its place.
func succeeded(away, back func(*redisserver.Node) error) start {
	return func(_ context.Context, a *arena.Arena, rng *rand.Rand) (func() error, error) {
		master, heir, err := pair(a, rng)
		if err != nil {
			return nil, err
		}
		if err := a.Cluster.Alone(heir); err != nil {
			return nil, err
		}
		a.Notef("master %s, heir %s", master.Addr(), heir.Addr())
		return func() error {
			return errors.Join(a.Cluster.AwaitHeir(heir), back(master), a.Cluster.Whole())
		}, away(master)
	}
}

// lost kills a replica and then its master, which comes back with nothing, or with a snapshot and in it what was invalidated
// since.
func lost(old bool) start {
	return func(ctx context.Context, a *arena.Arena, rng *rand.Rand) (func() error, error) {
		master, replica, err := pair(a, rng)
		if err != nil {
			return nil, err
		}
		heal := func() error {
			return errors.Join(master.Restart(), replica.Restart(), a.Cluster.Whole())
		}
		if err := errors.Join(a.Cluster.Alone(master), replica.Kill()); err != nil {
			return heal, err
		}
		if old {
			err = a.Cluster.With(master, func(ctx context.Context, rdb *redis.Client) error { return rdb.Save(ctx).Err() })
		} else {
			err = a.Cluster.Forget(master)
		}
		if err != nil {
			return heal, err
		}
		time.Sleep(time.Duration(500+rng.IntN(2500)) * time.Millisecond)
		a.Notef("master %s is killed", master.Addr())
		return heal, master.Kill()
	}
}

// migrate moves slots to another master and back, one after the other. No master is replaced meanwhile because the machine is
// slow: a replica that was elected in the midst of it has left a slot to nobody, for good.
func migrate(ctx context.Context, a *arena.Arena, rng *rand.Rand) (func() error, error) {
	if err := a.Cluster.NoElections(); err != nil {
		return a.Cluster.Whole, err
	}
	stop := background(ctx, func(ctx context.Context) error {
		for ctx.Err() == nil {
			if err := thereAndBack(a, rng); err != nil {
				return err
			}
		}
		return nil
	})
	return func() error { return errors.Join(stop(), a.Cluster.Whole()) }, nil
}

// thereAndBack has patience: a node may not answer for a moment, or miss its replica, if the machine is slow.
func thereAndBack(a *arena.Arena, rng *rand.Rand) error {
	never := func(error) bool { return false }
	var slot int
	var from, to *redisserver.Node
	if err := repeat(func() (err error) { slot, from, to, err = aSlot(a, rng); return err }, never); err != nil {
		return err
	}
	a.Notef("slot %d from %s to %s and back", slot, from.Addr(), to.Addr())
	for _, n := range []*redisserver.Node{to, from} {
		if err := repeat(func() error { return move(a, slot, n, rng) }, never); err != nil {
			return err
		}
	}
	return nil
}

// aSlot returns that of a key which a master has, or any if it has none, that master, and another one.
func aSlot(a *arena.Arena, rng *rand.Rand) (slot int, from, to *redisserver.Node, err error) {
	masters := a.Cluster.Masters()
	if len(masters) < 2 {
		return 0, nil, nil, errors.New("fault: there is no second master to migrate slots to")
	}
	rng.Shuffle(len(masters), func(i, j int) { masters[i], masters[j] = masters[j], masters[i] })
	from, to = masters[0], masters[1]
	err = a.Cluster.With(from, func(ctx context.Context, rdb *redis.Client) error {
		key, err := rdb.RandomKey(ctx).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		n, err := rdb.ClusterKeySlot(ctx, key).Result()
		slot = int(n)
		return err
	})
	return slot, from, to, err
}

// move takes its time over each step, so that there is load in all of them.
func move(a *arena.Arena, slot int, to *redisserver.Node, rng *rand.Rand) error {
	pause := func() { time.Sleep(time.Duration(rng.IntN(10)) * time.Millisecond) }
	m, err := a.Cluster.BeginMigration(slot, to)
	if err != nil || m == nil {
		return err
	}
	for moved := 1; moved > 0; {
		pause()
		moved, err = m.MoveKeys(1 + rng.IntN(4))
		if err != nil {
			return err
		}
	}
	if err := m.Hand(); err != nil {
		return err
	}
	pause()
	return m.Tell()
}

// part cuts some of the nodes off from the others: up to half of them, be they masters or replicas.
func part(cut func(*arena.Cluster, ...*redisserver.Node)) start {
	return func(_ context.Context, a *arena.Arena, rng *rand.Rand) (func() error, error) {
		nodes, masters := a.Cluster.Nodes(), a.Cluster.Masters()
		heirs := slices.DeleteFunc(slices.Clone(nodes), func(n *redisserver.Node) bool { return slices.Contains(masters, n) })
		if err := a.Cluster.Alone(heirs...); err != nil {
			return nil, err
		}
		side := make([]*redisserver.Node, 1+rng.IntN(len(nodes)/2))
		for i, j := range rng.Perm(len(nodes))[:len(side)] {
			side[i] = nodes[j]
			a.Notef("cut off: %s", nodes[j].Addr())
		}
		cut(a.Cluster, side...)
		return a.Cluster.Whole, nil
	}
}

// cutClient cuts one instance off from one master, and from nothing else.
func cutClient(_ context.Context, a *arena.Arena, rng *rand.Rand) (func() error, error) {
	master, _, err := pair(a, rng)
	if err != nil {
		return nil, err
	}
	s := a.Slots[rng.IntN(len(a.Slots))]
	p := s.Proxies[slices.Index(a.Cluster.Nodes(), master)]
	how := proxy.Direction(rng.IntN(int(proxy.Both) + 1))
	a.Notef("slot %d cut off from %s, directions %d", s.Index, master.Addr(), how)
	if how == 0 {
		p.Refuse()
	} else {
		p.Set(proxy.AnyKind, how, proxy.Rule{Hold: true})
	}
	return p.Pass, nil
}

// split cuts a master and half of the instances off from all other nodes and instances.
func split(_ context.Context, a *arena.Arena, rng *rand.Rand) (func() error, error) {
	master, heir, err := pair(a, rng)
	if err != nil {
		return nil, err
	}
	if err := a.Cluster.Alone(heir); err != nil {
		return nil, err
	}
	a.Notef("on the near side: %s, its heir: %s", master.Addr(), heir.Addr())
	a.Cluster.Part(master)
	a.Sever(master)
	return func() error {
		errs := []error{a.Cluster.AwaitHeir(heir)}
		for _, s := range a.Slots {
			errs = append(errs, s.Pass())
		}
		return errors.Join(append(errs, a.Cluster.Whole())...)
	}, nil
}
