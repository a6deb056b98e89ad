package redisserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// view is what one node says of all.
type view struct {
	of    *Node
	lines []viewLine
}

// viewLine is one node of a view.
type viewLine struct {
	id     string
	flags  []string
	master string // whose replica it is, "-" if it is none
	epoch  int64
	// connected says that the node which was asked has a connection of the nodes' own to it.
	connected bool
	slots     []slotRange // without those that are being migrated
}

type slotRange struct{ first, last int }

func (l viewLine) has(flag string) bool { return slices.Contains(l.flags, flag) }

func (l viewLine) owns(slot int) bool {
	return slices.ContainsFunc(l.slots, func(r slotRange) bool { return r.first <= slot && slot <= r.last })
}

// myself is the line about the node that was asked.
func (v view) myself() viewLine {
	for _, l := range v.lines {
		if l.has("myself") {
			return l
		}
	}
	return viewLine{}
}

// view asks the node for what it knows. See https://redis.io/docs/latest/commands/cluster-nodes/.
func (n *Node) view() (view, error) {
	var text string
	if err := n.within(viewTimeout, func(ctx context.Context, rdb *redis.Client) (err error) {
		text, err = rdb.ClusterNodes(ctx).Result()
		return err
	}); err != nil {
		return view{}, err
	}
	v := view{of: n}
	for line := range strings.Lines(text) {
		l, err := parseViewLine(line)
		if err != nil {
			return view{}, err
		}
		v.lines = append(v.lines, l)
	}
	return v, nil
}

func parseViewLine(line string) (viewLine, error) {
	fields := strings.Fields(line)
	if len(fields) < 8 {
		return viewLine{}, fmt.Errorf("redisserver: line of CLUSTER NODES: %q", line)
	}
	epoch, err := strconv.ParseInt(fields[6], 10, 64)
	if err != nil {
		return viewLine{}, fmt.Errorf("redisserver: line of CLUSTER NODES: %q: %w", line, err)
	}
	l := viewLine{
		id: fields[0], flags: strings.Split(fields[2], ","), master: fields[3], epoch: epoch, connected: fields[7] == "connected",
	}
	for _, field := range fields[8:] {
		if strings.HasPrefix(field, "[") { // on its way to another node, or from one
			continue
		}
		first, last, found := strings.Cut(field, "-")
		if !found {
			last = first
		}
		from, errFrom := strconv.Atoi(first)
		to, errTo := strconv.Atoi(last)
		if err := errors.Join(errFrom, errTo); err != nil {
			return viewLine{}, fmt.Errorf("redisserver: line of CLUSTER NODES: %q: %w", line, err)
		}
		l.slots = append(l.slots, slotRange{from, to})
	}
	return l, nil
}

// views returns what those nodes say that answer.
func (c *Cluster) views() []view {
	all := make([]view, len(c.nodes))
	var wg sync.WaitGroup
	for i, n := range c.nodes {
		wg.Go(func() {
			if v, err := n.view(); err == nil {
				all[i] = v
			}
		})
	}
	wg.Wait()
	return slices.DeleteFunc(all, func(v view) bool { return v.of == nil })
}

// Master returns the node that says that the slot is its own; of several, as there may be for a while, the one that has
// come to it last. It returns ErrNoMaster if there is none among those who answer.
func (c *Cluster) Master(slot int) (*Node, error) {
	var found *Node
	last := int64(-1)
	for _, v := range c.views() {
		if my := v.myself(); my.has("master") && my.owns(slot) && my.epoch > last {
			found, last = v.of, my.epoch
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%w %d", ErrNoMaster, slot)
	}
	return found, nil
}

// Masters returns the nodes that have slots, among those who answer, in the order of Nodes.
func (c *Cluster) Masters() []*Node {
	var masters []*Node
	for _, v := range c.views() {
		if my := v.myself(); my.has("master") && len(my.slots) > 0 {
			masters = append(masters, v.of)
		}
	}
	return masters
}

// Replicas returns the nodes that say that they replicate master, in the order of Nodes.
func (c *Cluster) Replicas(master *Node) []*Node {
	var replicas []*Node
	for _, v := range c.views() {
		if v.myself().master == master.id {
			replicas = append(replicas, v.of)
		}
	}
	return replicas
}

// AwaitWhole waits until all nodes answer, agree on the owner of each slot and say that all is well, and all replicas have what
// their masters have.
func (c *Cluster) AwaitWhole() error { return c.await(func() error { return c.whole(c.nodes) }) }

// AwaitAgreement is AwaitWhole for these nodes: of the others neither an answer is wanted nor a replica.
func (c *Cluster) AwaitAgreement(nodes ...*Node) error {
	return c.await(func() error { return c.whole(nodes) })
}

// awaitViews waits until n is connected to all nodes that it does not take for lost, and agrees with all that answer.
func (c *Cluster) awaitViews(n *Node) error {
	return c.await(func() error {
		views := c.views()
		i := slices.IndexFunc(views, func(v view) bool { return v.of == n })
		if i < 0 {
			return fmt.Errorf("redisserver: node %s does not answer", n.Addr())
		}
		for _, l := range views[i].lines {
			if !l.connected && !l.has("fail") {
				return fmt.Errorf("redisserver: node %s is not connected to %s", n.Addr(), l.id)
			}
		}
		return agree(views)
	})
}

func (c *Cluster) whole(nodes []*Node) error {
	var all []view
	for _, n := range nodes {
		v, err := n.view()
		if err != nil {
			return err
		}
		if err := n.well(len(c.nodes)); err != nil {
			return err
		}
		for _, l := range v.lines {
			down := l.has("fail?") || l.has("fail") || l.has("handshake") || l.has("noaddr")
			if down && slices.ContainsFunc(nodes, func(n *Node) bool { return n.id == l.id }) {
				return fmt.Errorf("redisserver: node %s sees %s as %v", n.Addr(), l.id, l.flags)
			}
		}
		all = append(all, v)
	}
	return agree(all)
}

// agree returns an error if two views differ in who has which slots, since when, or in who replicates whom.
func agree(views []view) error {
	for _, v := range views {
		if first, owners := views[0].owners(), v.owners(); owners != first {
			return fmt.Errorf("redisserver: nodes disagree:\n%s\n%s", first, owners)
		}
	}
	return nil
}

// owners returns who has which slots, by which epoch, in an order that is the same for all nodes, and who replicates whom.
func (v view) owners() string {
	var out []string
	for _, l := range v.lines {
		if !l.has("fail") {
			out = append(out, fmt.Sprintf("%s of %s, epoch %d: %v", l.id, l.master, l.epoch, l.slots))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// well asks the node for the state of the cluster of n nodes, and if it is a replica for that of its link to its master.
func (n *Node) well(nodes int) error {
	return n.within(viewTimeout, func(ctx context.Context, rdb *redis.Client) error {
		cluster, err := rdb.ClusterInfo(ctx).Result()
		if err != nil {
			return err
		}
		for _, want := range []string{"cluster_state:ok", "cluster_slots_assigned:16384", fmt.Sprintf("cluster_known_nodes:%d", nodes)} {
			if !strings.Contains(cluster, want+"\r\n") {
				return fmt.Errorf("CLUSTER INFO does not say %s:\n%s", want, cluster)
			}
		}
		replication, err := rdb.Info(ctx, "replication").Result()
		if err != nil {
			return err
		}
		if strings.Contains(replication, "role:slave") && !strings.Contains(replication, "master_link_status:up") {
			return fmt.Errorf("the replica is not in sync:\n%s", replication)
		}
		return nil
	})
}
