package tiered

import (
	"context"
	"slices"
	"time"

	"github.com/tandemcache/tandem/remote"
)

// refresh is the life of refreshes that go together, one or those of a batch. They are no flights that a Get can join: whoever
// misses has a value in L2 to be had at once, or waits for the refresh's lease as another instance would.
//
// Each value is loaded under a lease, as a flight's is, unless L2 has a younger one than the copy that is due: of another
// instance, which has refreshed it. L1 then takes that.
//
// Without Redis there is no lease, so nothing is done: L1 ends what it has by MaxStaleness.
func (g *group[V]) refresh(ms []*member[V]) {
	c := g.c
	for _, m := range ms {
		m.ticket = c.ticket(m.key) // before the gate is looked at, which may be of an earlier session
		m.heard = c.foreign.count(m.key)
	}
	allow := g.allow()
	due := slices.DeleteFunc(slices.Clone(ms), func(m *member[V]) bool {
		m.o = c.look(m.key)
		return !m.o.open || !m.o.keep || c.isPending(m.key) || !allow(m.o.node)
	})
	if len(due) > 0 {
		for _, m := range due {
			m.ticket = m.ticket.NotAfter(m.o.sent)
		}
		if mine := g.acquireDue(g.readDue(due)); len(mine) > 0 {
			g.loadLeased(mine)
		}
	}
	for _, m := range ms {
		var zero V
		g.land(m, zero, nil) // those that were not loaded
	}
}

// readDue takes what others have refreshed, and returns the rest.
func (g *group[V]) readDue(ms []*member[V]) (due []*member[V]) {
	c := g.c
	answers := askAll(g, "read", ms, func(ctx context.Context, n *node, ms []*member[V]) []remote.Answer[[]byte] {
		return n.reads.GetMany(ctx, keysOf(ms))
	})
	for i, m := range ms {
		raw, err := answers[i].Value, answers[i].Err
		if isBad(err) {
			c.bad(m.key, err)
			raw, err = nil, nil
		}
		if err == nil && m.o.same() && g.stillDue(m, raw) {
			due = append(due, m)
		}
	}
	return due
}

// stillDue reports whether what L2 holds, nil for nothing, is not younger than the copy that is due.
func (g *group[V]) stillDue(m *member[V], raw []byte) bool {
	c := g.c
	if raw == nil {
		c.count.remoteMisses.Add(1)
		return true
	}
	e, use, err := c.open(m.key, raw, m.o.epoch, m.o.now(), m.o.cleared)
	if err != nil {
		c.bad(m.key, err)
	}
	if use == usable && c.young(e.age) {
		m.aged.done = true
		_, _ = c.take(m.flight, e, m.o)
		return false
	}
	if use == usable {
		m.aged = &aged{found: true, absent: e.absent, payload: e.payload, until: time.Now().Add(e.life)}
	}
	if use != otherEpoch {
		m.seen = remote.Unusable(raw) // another one would be the answer
	}
	return true
}

// acquireDue returns those that this instance is to load.
func (g *group[V]) acquireDue(ms []*member[V]) (mine []*member[V]) {
	if len(ms) == 0 {
		return nil
	}
	c := g.c
	for _, m := range ms {
		m.token = remote.NewToken()
	}
	answers := g.ask(ms)
	now := time.Now()
	var unknown []*member[V]
	for i, m := range ms {
		l := answers[i].Value
		switch {
		case answers[i].Err != nil, !m.o.same():
			unknown = append(unknown, m)
		case l.Outcome == remote.Acquired:
			m.lease, m.leased = l, now
			mine = append(mine, m)
		case l.Outcome == remote.Found:
			e, use, err := c.open(m.key, l.Value, l.Epoch, l.Now, m.o.cleared)
			if err != nil {
				c.bad(m.key, err)
			}
			if use == usable {
				_, _ = c.take(m.flight, e, m.o)
			}
		default: // somebody refreshes it; L1 asks again after the pause
		}
	}
	g.releaseLater(unknown) // they may have been acquired all the same
	return mine
}
