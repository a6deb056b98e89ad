package tiered

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/remote"
)

// loadsAtOnce is how many calls of a single loader a GetMany makes at once.
const loadsAtOnce = 16

// loadLeased is Cache.loadLeased for a group.
func (g *group[V]) loadLeased(ms []*member[V]) {
	stop := g.keepLeases(ms)
	defer stop()
	if g.c.opts.LoadMany != nil && !g.single {
		g.callMany(ms)
		g.store(ms)
		return
	}
	// What has been loaded while the last ones were stored is stored together.
	for ready := range g.loadEach(ms) {
		g.store(ready)
	}
}

// loadEach calls the single loader for every member, loadsAtOnce at a time, and yields those that have come, as many as there
// are each time.
func (g *group[V]) loadEach(ms []*member[V]) iter.Seq[[]*member[V]] {
	loaded := make(chan *member[V], len(ms))
	var wg sync.WaitGroup
	for own := range shares(ms) {
		wg.Go(func() {
			defer g.rescue(own)
			for _, m := range own {
				began := time.Now()
				m.loaded.val, m.loaded.err = g.c.callLoader(m.flight)
				m.took = time.Since(began)
				loaded <- m
			}
		})
	}
	go func() {
		wg.Wait()
		close(loaded)
	}()
	return func(yield func([]*member[V]) bool) {
		for m := range loaded {
			ready := []*member[V]{m}
			for range len(loaded) {
				ready = append(ready, <-loaded)
			}
			if !yield(ready) {
				return
			}
		}
	}
}

// shares deals the members to as many goroutines as may load at once.
func shares[V any](ms []*member[V]) iter.Seq[[]*member[V]] {
	return func(yield func([]*member[V]) bool) {
		n := min(len(ms), loadsAtOnce)
		for i := range n {
			var own []*member[V]
			for ; i < len(ms); i += n {
				own = append(own, ms[i])
			}
			if !yield(own) {
				return
			}
		}
	}
}

// loadAlone is Cache.loadAlone for a group, each member's result to be kept as the member says.
func (g *group[V]) loadAlone(ms []*member[V]) {
	c := g.c
	if c.opts.LoadMany == nil { // or there is no loader at all
		var wg sync.WaitGroup
		defer wg.Wait()
		for own := range shares(ms) {
			g.part(&wg, own, func(g *group[V], ms []*member[V]) {
				for _, m := range ms {
					v, err := c.loadAlone(m.flight, m.keep)
					g.land(m, v, err)
				}
			})
		}
		return
	}
	if err := c.loadSlot(); err != nil {
		for _, m := range ms {
			var zero V
			g.land(m, zero, err)
		}
		return
	}
	defer c.freeLoadSlot()
	g.callMany(ms)
	for _, m := range ms {
		v, err := m.loaded.val, m.loaded.err
		absent := errors.Is(err, ErrNotFound)
		if absent {
			c.count.notFound.Add(1)
		}
		if absent && (m.keep == nowhere || c.opts.NotFoundTTL <= 0) {
			c.replace(m.flight)
		}
		if (err == nil || absent) && m.keep == inLocal {
			ttl := c.opts.NotFoundTTL
			if !absent {
				ttl = c.labelAlone(m.flight, v)
			}
			c.putLocal(m.flight, v, absent, ttl)
		}
		g.land(m, v, err)
	}
}

// callMany calls LoadMany for the members, under the contract of a loader.
func (g *group[V]) callMany(ms []*member[V]) {
	keys := keysOf(ms)
	var got map[string]V
	call := &flight[V]{ctx: g.ctx, load: func(ctx context.Context, _ string) (V, error) {
		var zero V
		all, err := g.c.opts.LoadMany(ctx, keys)
		got = all
		return zero, err
	}}
	began := time.Now()
	_, err := g.c.callLoader(call)
	took := time.Since(began)
	for _, m := range ms {
		m.took = took                       // for each: it would be for one alone
		if m.loaded.err = err; err != nil { // and then got may not be looked at: a loader that is late may be writing it
			continue
		}
		var ok bool
		if m.loaded.val, ok = got[m.key]; !ok {
			m.loaded.err = ErrNotFound
		}
	}
}

// keepLeases renews the leases until stop is called, also those of members whose turn to load has not come.
func (g *group[V]) keepLeases(ms []*member[V]) (stop func()) {
	c := g.c
	ctx, cancel := context.WithCancel(c.ctx)
	c.spawn(func() {
		ticker := time.NewTicker(leaseTTL / 3)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				g.renew(ctx, ms)
			case <-ctx.Done():
				return
			}
		}
	})
	return cancel
}

func (g *group[V]) renew(ctx context.Context, ms []*member[V]) {
	ctx, cancel := context.WithTimeout(ctx, g.c.opts.RedisTimeout)
	defer cancel()
	flying := make(map[*node][]*member[V], 1)
	for _, m := range ms {
		if !m.landed.Load() {
			flying[m.o.node] = append(flying[m.o.node], m)
		}
	}
	var wg sync.WaitGroup
	for n, ms := range flying {
		wg.Go(func() { g.renewAt(ctx, n, ms) })
	}
	wg.Wait()
}

func (g *group[V]) renewAt(ctx context.Context, n *node, ms []*member[V]) {
	leases := make([]remote.Holding, len(ms))
	for i, m := range ms {
		leases[i] = remote.Holding{Key: m.key, Token: m.lease.Token}
	}
	for i, a := range n.reads.RenewMany(ctx, leases, leaseTTL) {
		if a.Err == nil && !a.Value { // an error says nothing about the lease
			ms[i].lost.Store(true)
		}
	}
}

// store is what Cache.loadLeased does with what was loaded: it fills both tiers with what no invalidation has come between,
// gives up the leases of the rest, and lands all. The lease of a refresh that failed stays while the value does: the fleet as a
// whole then tries no more often.
func (g *group[V]) store(ms []*member[V]) {
	c := g.c
	var filling, useless []*member[V]
	for _, m := range ms {
		absent := errors.Is(m.loaded.err, ErrNotFound)
		if absent {
			c.count.notFound.Add(1)
		}
		m.outcome = loadStored
		ok := m.loaded.err == nil || absent
		if ok {
			m.fill, ok = g.filling(m, absent)
		}
		switch {
		case m.loaded.err != nil && !absent:
			if m.outcome = loadFailed; !m.aged.outlasts(leaseTTL) {
				useless = append(useless, m)
			}
		case !ok:
			if !absent {
				m.outcome = notStored
			}
			useless = append(useless, m)
		case m.lost.Load():
			c.count.refused.Add(1)
		default:
			filling = append(filling, m)
		}
	}
	for i, inLocal := range g.fill(filling) {
		if m := filling[i]; inLocal {
			c.ageLoaded(m.flight, ages{age: time.Since(m.leased), ttl: m.life, load: m.took})
			c.putLocal(m.flight, m.loaded.val, m.loaded.err != nil, m.life)
		}
	}
	g.release(useless)
	for _, m := range useless {
		if errors.Is(m.loaded.err, ErrNotFound) {
			c.replace(m.flight)
		}
	}
	for _, m := range ms {
		g.land(m, m.loaded.val, m.loaded.err)
	}
}

// filling returns what is to be stored of a loaded value; not ok means nothing.
func (g *group[V]) filling(m *member[V], absent bool) (fill remote.Filling, ok bool) {
	c := g.c
	ttl, payload, ok := c.prepare(m.flight, m.loaded.val, absent)
	if !ok {
		return remote.Filling{}, false
	}
	c.compare(m.flight, payload, absent)
	env := remote.Envelope{
		Schema: c.schema, Absent: absent, Epoch: m.lease.Epoch, Payload: payload,
		Created: m.lease.Now, Expires: m.lease.Now + (time.Since(m.leased) + ttl).Milliseconds(), Load: m.took,
	}
	c.tellTags(&env, m.tags)
	bytes, err := env.Encode(m.key)
	if err != nil {
		return remote.Filling{}, false
	}
	m.life = ttl
	keep := ttl
	if !absent {
		keep = c.lingering(ttl)
	}
	return remote.Filling{
		Key: m.key, Token: m.lease.Token, Envelope: bytes, TTL: keep, Epoch: m.lease.Epoch, Wake: c.wake(m.key, pubsub.Filled),
		AsOf: m.lease.AsOf,
	}, true
}

// fill stores in Redis, and reports for each member whether L1 may have it too: see Cache.fill.
func (g *group[V]) fill(ms []*member[V]) []bool {
	c := g.c
	if len(ms) == 0 {
		return nil
	}
	heard := make([]uint64, len(ms))
	for i, m := range ms {
		heard[i] = c.foreign.count(m.key)
	}
	answers := askAll(g, "fill", ms, func(ctx context.Context, n *node, ms []*member[V]) []remote.Answer[bool] {
		fills := make([]remote.Filling, len(ms))
		for i, m := range ms {
			fills[i] = m.fill
		}
		return n.reads.FillMany(ctx, fills)
	})
	may := make([]bool, len(ms))
	var unknown []*member[V]
	for i, a := range answers {
		switch may[i] = a.Value || a.Err != nil; {
		case a.Err != nil:
			unknown = append(unknown, ms[i])
		case a.Value:
			c.count.fills.Add(1)
			ms[i].heard = heard[i] // as in Cache.fill
		default:
			c.count.refused.Add(1)
		}
	}
	g.releaseLater(unknown)
	return may
}

// release gives up leases before their flights land: who asks next must not wait for them.
func (g *group[V]) release(ms []*member[V]) {
	if g.c.opts.NoLease || len(ms) == 0 {
		return // others may load under them
	}
	answers := askAll(g, "release", ms, func(ctx context.Context, n *node, ms []*member[V]) []remote.Answer[bool] {
		return n.reads.ReleaseMany(ctx, g.holdings(ms))
	})
	var unknown []*member[V]
	for i, a := range answers {
		if a.Err != nil {
			unknown = append(unknown, ms[i])
		}
	}
	g.releaseLater(unknown)
}

// releaseLater is Cache.releaseLater for a group.
func (g *group[V]) releaseLater(ms []*member[V]) {
	if len(ms) == 0 {
		return
	}
	of := make(map[*node][]*member[V], 1)
	for _, m := range ms {
		of[m.o.node] = append(of[m.o.node], m)
	}
	g.c.courtesy(func(ctx context.Context) {
		for n, ms := range of {
			n.reads.ReleaseMany(ctx, g.holdings(ms))
		}
	})
}

func (g *group[V]) holdings(ms []*member[V]) []remote.Holding {
	out := make([]remote.Holding, len(ms))
	for i, m := range ms {
		out[i] = remote.Holding{Key: m.key, Token: m.token, Wake: g.c.wake(m.key, pubsub.Failed)}
	}
	return out
}
