package redisserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Failover makes replica the master in its master's place while that lives, and returns when it is: they agree on where one
// ends and the other begins, so no write is lost. Other nodes may hear of it a moment later; see AwaitWhole. It first waits
// until the replica is connected to the others and agrees with them: one that is not refuses, and one that has not heard of a
// slot which its master has come to would not take its place there.
//
// It also waits until another election of this node may begin, four times NodeTimeout after the last (4 s at least). Redis 7.0 would
// count the votes of that one once more: the node is master at once, of an epoch that is over, and the others do not follow. It
// does not see elections that a replica began by itself.
func (c *Cluster) Failover(replica *Node) error {
	time.Sleep(time.Until(time.Unix(0, replica.asked.Load()).Add(c.again)))
	if err := c.awaitViews(replica); err != nil {
		return err
	}
	defer func() { replica.asked.Store(time.Now().UnixNano()) }()
	return c.promote(replica)
}

// Takeover makes replica the master without asking anybody: what it has not received from its master is lost, and for a while
// both may take writes.
func (c *Cluster) Takeover(replica *Node) error {
	return c.promote(replica, "TAKEOVER")
}

func (c *Cluster) promote(replica *Node, how ...any) error {
	ask := func() error {
		return replica.do(func(ctx context.Context, rdb *redis.Client) error {
			return rdb.Do(ctx, append([]any{"CLUSTER", "FAILOVER"}, how...)...).Err()
		})
	}
	if err := ask(); err != nil {
		return err
	}
	asked := time.Now()
	return c.await(func() error {
		v, err := replica.view()
		if err != nil || v.myself().has("master") {
			return err
		}
		if time.Since(asked) > failoverPatience {
			asked = time.Now()
			_ = ask() // the node says no more than that it is at it still
		}
		return fmt.Errorf("redisserver: node %s is %v", replica.Addr(), v.myself().flags)
	})
}

// failoverPatience is longer than the five seconds after which a replica gives a failover up, without a word.
const failoverPatience = 6 * time.Second

// Migration is a slot on its way from one master to another: of its keys some are here and some are there. A node that is asked
// for a key which it does not have answers with ASK, or with TRYAGAIN if it has others of the same command.
type Migration struct {
	c        *Cluster
	slot     int
	from, to *Node
}

// Migrate moves a slot with its keys to another master, as redis-cli --cluster reshard does.
func (c *Cluster) Migrate(slot int, to *Node) error {
	m, err := c.BeginMigration(slot, to)
	if err != nil || m == nil {
		return err
	}
	for {
		moved, err := m.MoveKeys(100)
		if err != nil {
			return err
		}
		if moved == 0 {
			return m.Finish()
		}
	}
}

// BeginMigration opens the slot on both sides and moves nothing. It returns nil if it is to's already.
//
// It first waits until to and the other nodes that answer agree on who has what, and since which epoch. A node that is handed
// a slot takes it with an epoch above all that it knows of, and the greater one wins where two claim a slot. So, without waiting:
//
//  1. another migration to A gives A the greatest epoch, of which B has not heard;
//  2. a slot of A is handed to B, with an epoch that is not above A's;
//  3. B hears from A, which has a greater epoch and claims the slot still, and leaves it to A;
//  4. A is told that the slot is B's.
//
// Now each takes the slot for the other's, and no node ever serves it again.
func (c *Cluster) BeginMigration(slot int, to *Node) (*Migration, error) {
	if err := c.awaitViews(to); err != nil {
		return nil, err
	}
	from, err := c.Master(slot)
	if err != nil {
		return nil, err
	}
	if from == to {
		return nil, nil //nolint:nilnil // documented: there is nothing to migrate
	}
	m := &Migration{c: c, slot: slot, from: from, to: to}
	// In this order: a node that says ASK must name one that is prepared.
	if err := m.set(to, "IMPORTING", from.id); err != nil {
		return nil, err
	}
	if err := m.set(from, "MIGRATING", to.id); err != nil {
		return nil, err
	}
	return m, nil
}

// MoveKeys moves at most n keys, and returns how many.
func (m *Migration) MoveKeys(n int) (moved int, err error) {
	host, port, err := net.SplitHostPort(m.to.Addr())
	if err != nil {
		return 0, err
	}
	err = m.from.do(func(ctx context.Context, rdb *redis.Client) error {
		keys, err := rdb.ClusterGetKeysInSlot(ctx, m.slot, n).Result()
		if err != nil || len(keys) == 0 {
			return err
		}
		args := []any{"MIGRATE", host, port, "", 0, nodeTimeout.Milliseconds(), "REPLACE", "KEYS"}
		for _, key := range keys {
			args = append(args, key)
		}
		moved = len(keys)
		return rdb.Do(ctx, args...).Err() // NOKEY, if they have expired meanwhile, is no error
	})
	return moved, err
}

// Finish gives the slot to its new master. All keys must have been moved: see MoveKeys.
func (m *Migration) Finish() error {
	if err := m.Hand(); err != nil {
		return err
	}
	return m.Tell()
}

// Hand tells only the new master that the slot is its own. The old one takes it for its own still, until it hears of it on the
// nodes' own connections or by Tell.
func (m *Migration) Hand() error { return m.set(m.to, "NODE", m.to.id) }

// Tell tells the other masters, the old one first.
func (m *Migration) Tell() error {
	errs := []error{m.settle(m.from)}
	for _, n := range m.c.Masters() {
		if n != m.from && n != m.to {
			errs = append(errs, m.settle(n))
		}
	}
	return errors.Join(errs...)
}

// settle is for a master, or one that was: it has become a replica if the slot was its last.
func (m *Migration) settle(n *Node) error {
	err := m.set(n, "NODE", m.to.id)
	if err != nil && strings.Contains(err.Error(), "only with masters") {
		return nil
	}
	return err
}

// Abort closes the slot on both sides. Keys that were moved are not found any more.
func (m *Migration) Abort() error {
	return errors.Join(m.set(m.from, "STABLE"), m.set(m.to, "STABLE"))
}

func (m *Migration) set(n *Node, args ...any) error {
	return n.do(func(ctx context.Context, rdb *redis.Client) error {
		return rdb.Do(ctx, append([]any{"CLUSTER", "SETSLOT", m.slot}, args...)...).Err()
	})
}
