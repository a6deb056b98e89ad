package tiered

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/remote"
)

// group is the flights that a GetMany has started, or some of them, for as far as they go together: through Redis in one trip,
// and to the source in one call. What is decided for a flight in fetch.go, lease.go and fill.go is decided here for each by
// itself; a part of the group that goes another way does so on a goroutine of its own, and nobody waits for it but those who want
// its keys.
type group[V any] struct {
	c *Cache[V]
	// ctx has the values of the call that started the flights, and no cancellation.
	ctx    context.Context //nolint:containedctx // as a flight's
	budget *budget         // of this goroutine; a part that goes its own way takes what is left of it
	single bool            // a refresh of one key, by the flight's own loader
	// overdue are the keys of those that were due for a refresh when they were taken from L2.
	overdue []string
}

// member is a flight in a group. One goroutine has it at a time.
type member[V any] struct {
	*flight[V]
	o      opening // of its part
	keep   keeping // for a load without a lease
	token  remote.Token
	seen   remote.Seen
	asked  int  // how often a value was there that could not be used
	failed bool // somebody else's load of it has, while it was waited for

	lease  remote.Lease
	leased time.Time // when it was
	loaded loaded[V] // what its loader has come to
	took   time.Duration
	life   time.Duration // of what was loaded
	fill   remote.Filling
	lost   atomic.Bool // the lease, before the load was over
	landed atomic.Bool // its result is out
}

func membersOf[V any](fs []*flight[V]) []*member[V] {
	ms := make([]*member[V], len(fs))
	for i, f := range fs {
		ms[i] = &member[V]{flight: f, keep: inLocal}
	}
	return ms
}

func keysOf[V any](ms []*member[V]) []string {
	keys := make([]string, len(ms))
	for i, m := range ms {
		keys[i] = m.key
	}
	return keys
}

// land hands out a member's result; the first one counts.
func (g *group[V]) land(m *member[V], v V, err error) {
	if m.landed.CompareAndSwap(false, true) {
		if m.aged != nil {
			g.c.endRefresh(m.flight, err)
			return
		}
		defer g.c.flights.finish(m.flight) // also if a codec exits the goroutine
		m.val, m.err = v, err
		g.c.afterLoad(m.flight)
	}
}

// guard runs f, which lands all the members; a codec that exits the goroutine must not leave waiters behind.
func (g *group[V]) guard(ms []*member[V], f func()) {
	defer func() {
		for _, m := range ms {
			var zero V
			g.land(m, zero, ErrLoaderExited)
		}
	}()
	defer g.rescue(ms)
	f()
}

// rescue is deferred. User code is contained where it is called; this is for a mistake of ours.
func (g *group[V]) rescue(ms []*member[V]) {
	if p := recover(); p != nil {
		for _, m := range ms {
			var zero V
			g.land(m, zero, &PanicError{Value: p})
		}
	}
}

// part runs f for some of the members on a goroutine of wg, with what is left of the budget.
func (g *group[V]) part(wg *sync.WaitGroup, ms []*member[V], f func(*group[V], []*member[V])) {
	if len(ms) == 0 {
		return
	}
	budget := *g.budget
	own := &group[V]{c: g.c, ctx: g.ctx, budget: &budget}
	wg.Go(func() { own.guard(ms, func() { f(own, ms) }) })
}

// fetch is Cache.fetch for a group. It returns when all have landed.
func (g *group[V]) fetch(ms []*member[V]) {
	var wg sync.WaitGroup
	defer wg.Wait()
	var early, rest []*member[V]
	for _, m := range ms {
		if m.o = g.c.look(m.key); m.o.wait != nil {
			early = append(early, m)
		} else {
			rest = append(rest, m)
		}
	}
	if len(rest) == 0 {
		g.fetchEarly(early)
		return
	}
	g.part(&wg, early, (*group[V]).fetchEarly)
	g.fetchOpen(rest)
}

// fetchEarly waits for the gates of members whose parts have had no heartbeat yet, as long as there is time.
func (g *group[V]) fetchEarly(ms []*member[V]) {
	for _, m := range ms {
		m.o = g.c.awaitGate(g.ctx, g.budget, g.c.part(m.key))
	}
	g.fetchOpen(ms)
}

// fetchOpen goes on when it is known which gates are open.
func (g *group[V]) fetchOpen(ms []*member[V]) {
	c := g.c
	var wg sync.WaitGroup
	defer wg.Wait()
	var doubtful, shut, rest []*member[V]
	allow := g.allow()
	for _, m := range ms {
		c.flights.believe(m.flight, m.o)
		switch {
		case c.isPending(m.key):
			m.keep = nowhere
			doubtful = append(doubtful, m)
		case m.o.open && allow(m.o.node):
			rest = append(rest, m)
		default:
			shut = append(shut, m)
		}
	}
	g.part(&wg, doubtful, (*group[V]).loadAlone)
	if len(rest) == 0 {
		g.loadAlone(shut)
		return
	}
	g.part(&wg, shut, (*group[V]).loadAlone)
	if c.opts.NoLease && c.opts.Load != nil {
		g.fetchLeased(rest) // which brings what is there
	} else {
		g.fetchLeased(g.read(&wg, rest))
	}
}

// allow returns what asks a node's breaker, once for all the members: who is let through may be the probe.
func (g *group[V]) allow() func(*node) bool {
	allowed := make(map[*node]bool, 1)
	return func(n *node) bool {
		ok, asked := allowed[n]
		if !asked {
			ok = n.breaker.allow()
			allowed[n] = ok
		}
		return ok
	}
}

// read lands those whose entries are in Redis, and returns those that need a lease.
func (g *group[V]) read(wg *sync.WaitGroup, ms []*member[V]) (missing []*member[V]) {
	c := g.c
	answers := askAll(g, "read", ms, func(ctx context.Context, n *node, ms []*member[V]) []remote.Answer[[]byte] {
		return n.reads.GetMany(ctx, keysOf(ms))
	})
	var alone []*member[V]
	for i, m := range ms {
		raw, err := answers[i].Value, answers[i].Err
		switch {
		case isBad(err):
			c.bad(m.key, err)
			missing = append(missing, m)
		case err != nil, !m.o.same():
			alone = append(alone, m)
		case raw == nil:
			c.count.remoteMisses.Add(1)
			missing = append(missing, m)
		default:
			e, use, err := c.open(m.key, raw, m.o.epoch, m.o.now(), m.o.cleared)
			if err != nil {
				c.bad(m.key, err)
			}
			switch use {
			case usable:
				g.take(m, e)
				continue
			case otherEpoch: // the lease script knows which of the two it is
			case expired:
				c.keepExpired(m.flight, e, m.o)
				m.seen = remote.Unusable(raw)
			case unusable:
				m.seen = remote.Unusable(raw)
			}
			missing = append(missing, m)
		}
	}
	g.refreshOverdue()
	g.part(wg, alone, (*group[V]).loadAlone)
	return missing
}

func (g *group[V]) take(m *member[V], e decoded[V]) {
	v, err := g.c.take(m.flight, e, m.o)
	g.land(m, v, err)
}

// refreshOverdue begins the refreshes of what was taken.
func (g *group[V]) refreshOverdue() {
	g.c.refreshBatch(g.ctx, g.overdue)
	g.overdue = nil
}

// fetchLeased loads the values under leases, or gets them from whoever holds the leases. What this instance holds is loaded
// while the rest is waited for: two that each waited for what the other has would wait for nothing.
func (g *group[V]) fetchLeased(ms []*member[V]) {
	c := g.c
	if c.opts.Load == nil {
		for _, m := range ms {
			var zero V
			g.land(m, zero, ErrNotFound)
		}
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	heard := newWords()
	for _, m := range ms {
		m.token = remote.NewToken()
		c.waiters.listen(m.key, heard) // before the lease is asked for, so that no word can come in between
	}
	defer func() {
		for _, m := range ms {
			c.waiters.remove(m.key, heard)
		}
	}()
	patience := newLeaseWait(c.opts.LeaseWait)
	var waiting []*member[V]
	for ask := ms; len(ask)+len(waiting) > 0; {
		var held []*member[V]
		left := g.budget.left
		if ask, held = g.acquire(&wg, ask); len(held) > 0 && len(ask) == 0 {
			g.budget.left = left // as for a single flight
		}
		waiting = append(waiting, held...)
		if len(ask) == 0 {
			ask, waiting = g.wait(&wg, patience, heard, waiting)
		}
	}
}

// acquire asks for the leases. It sends those off that are answered, and returns those that are to ask again at once and those
// that have to wait.
func (g *group[V]) acquire(wg *sync.WaitGroup, ms []*member[V]) (again, held []*member[V]) {
	c := g.c
	if len(ms) == 0 {
		return nil, nil
	}
	answers := g.ask(ms)
	now := time.Now()
	var mine, alone, refused []*member[V]
	for i, m := range ms {
		l, err := answers[i].Value, answers[i].Err
		if err != nil || !m.o.same() {
			alone = append(alone, m)
			continue
		}
		if l.Epoch != m.o.epoch {
			m.expired.Store(nil) // an epoch has ended, and it with it
		}
		switch l.Outcome {
		case remote.Acquired:
			if c.opts.NoLease {
				c.count.remoteMisses.Add(1) // of a read that was not made by itself
			}
			m.lease, m.leased = l, now
			mine = append(mine, m)
		case remote.Found:
			e, use, err := c.open(m.key, l.Value, l.Epoch, l.Now, m.o.cleared)
			if err != nil {
				c.bad(m.key, err)
			}
			switch use {
			case usable:
				g.take(m, e)
				continue
			case expired:
				if l.Epoch == m.o.epoch {
					c.keepExpired(m.flight, e, m.o)
				}
			case otherEpoch, unusable:
			}
			m.seen = remote.Unusable(l.Value)
			if m.asked++; m.asked < maxAttempts {
				again = append(again, m)
			} else {
				m.keep = nowhere
				refused = append(refused, m)
			}
		case remote.Held:
			c.count.leaseWaits.Add(1)
			held = append(held, m)
		}
	}
	g.refreshOverdue()
	g.releaseLater(alone) // they may have been acquired all the same
	g.part(wg, mine, (*group[V]).loadLeased)
	g.part(wg, append(alone, refused...), (*group[V]).loadAlone)
	return again, held
}

// ask asks for the leases of ms.
func (g *group[V]) ask(ms []*member[V]) []remote.Answer[remote.Lease] {
	return askAll(g, "lease", ms, func(ctx context.Context, n *node, ms []*member[V]) []remote.Answer[remote.Lease] {
		asks := make([]remote.Ask, len(ms))
		for i, m := range ms {
			asks[i] = remote.Ask{Key: m.key, Token: m.token, Seen: m.seen, Inbox: g.c.inbox(m.key)}
		}
		return n.reads.AcquireMany(ctx, asks, leaseTTL)
	})
}

// wait waits until something is said about the leases of waiting, or for the time to ask again, and returns who is to ask and
// who goes on waiting. Who has waited enough, as leaseWait says of a single flight, loads.
func (g *group[V]) wait(wg *sync.WaitGroup, patience *leaseWait, heard *words, waiting []*member[V]) (ask, rest []*member[V]) {
	var enough []*member[V]
	left := time.Until(patience.until)
	for _, m := range waiting {
		if left <= 0 || m.failed || g.c.ctx.Err() != nil {
			m.keep = nowhere
			enough = append(enough, m)
		} else {
			rest = append(rest, m)
		}
	}
	g.part(wg, enough, (*group[V]).loadAlone)
	if len(rest) == 0 {
		return nil, nil
	}
	timer := time.NewTimer(min(left, patience.poll/2+rand.N(patience.poll)))
	defer timer.Stop()
	select {
	case <-heard.some:
		heard.gather(g.c.ctx)
		said := heard.take()
		waiting, rest = rest, nil
		for _, m := range waiting {
			if n, ok := said[m.key]; ok {
				m.failed = n == gaveUp
				ask = append(ask, m)
			} else {
				rest = append(rest, m)
			}
		}
		return ask, rest
	case <-timer.C:
		patience.poll = min(2*patience.poll, maxPoll)
		return rest, nil
	case <-g.c.ctx.Done():
		return nil, rest
	}
}

// words are what the members of a group are told, by key. Of several the first stays: who has heard it looks for itself.
type words struct {
	mu    sync.Mutex // protects said
	said  map[string]news
	some  chan struct{} // has room for one
	pause time.Duration // of gather
}

// maxGather is how long a word is kept at most for others that come after it.
const maxGather = 16 * time.Millisecond

// gather waits for words that follow the first. That is heard at once, and every later one takes a little longer: a holder that
// loads its keys one after the other would else cost a trip to Redis for each, and with them the time for it.
func (w *words) gather(ctx context.Context) {
	if w.pause > 0 {
		timer := time.NewTimer(w.pause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	w.pause = min(max(2*w.pause, time.Millisecond), maxGather)
}

func newWords() *words { return &words{said: make(map[string]news), some: make(chan struct{}, 1)} }

func (w *words) hear(key string, n news) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, before := w.said[key]; !before {
		w.said[key] = n
	}
	select {
	case w.some <- struct{}{}:
	default:
	}
}

func (w *words) take() map[string]news {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := w.said
	w.said = make(map[string]news)
	return said
}

// isReply reports whether an error is what Redis has said, and not that it said nothing.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}
