package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tandemcache/tandem/remote"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/cluster"
)

const (
	surveyEvery   = time.Second
	surveyTimeout = 5 * time.Second
	// gathering is how long losses are collected: a node gives up its slots one by one.
	gathering = 50 * time.Millisecond
	// certain is how many surveys in a row must find a slot elsewhere before a connection that works is given up for it: a node
	// that is asked may be wrong for a moment.
	certain = 2
)

var errElsewhere = errors.New("another node has the slots now")

// RunCluster is Run for a cache in a cluster, or for all that have running instances, if the name is empty. It returns an error only
// if it is not known at first how the cache is divided. A node that cannot be listened to is told of, and tried again for ever.
func RunCluster(ctx context.Context, c *cluster.Client, cache string, tell func(Event)) error {
	if cache == "" {
		return runAll(ctx, c, tell)
	}
	keys, err := c.Keys(ctx, cache)
	if ctx.Err() != nil {
		return nil //nolint:nilerr // its error is that it was interrupted
	}
	if err != nil {
		return err
	}
	newFollower(c, cache, keys, tell).run(ctx)
	return nil
}

// follower listens to all partitions of a cache.
type follower struct {
	client  *cluster.Client
	cache   string
	tell    func(Event)
	reports chan report
	lines   sync.WaitGroup

	// What follows is of the goroutine of run.
	keys       remote.Keys
	parts      []place
	losses     map[string]*Event // by node
	gathered   <-chan time.Time  // when they are told
	surveySoon chan struct{}
}

// place is where a partition is listened to.
type place struct {
	line      *line // nil: nowhere
	missed    bool  // that has been told
	elsewhere int   // how many surveys in a row have found it on another node than the line's
}

// survey is what the cluster says of a cache.
type survey struct {
	keys   remote.Keys
	owners []string // of each partition; empty where it is not known
}

func newFollower(c *cluster.Client, cache string, keys remote.Keys, tell func(Event)) *follower {
	return &follower{
		client: c, cache: cache, tell: tell, reports: make(chan report), losses: make(map[string]*Event),
		keys: keys, parts: make([]place, keys.Partitions()), surveySoon: make(chan struct{}, 1),
	}
}

// run ends with ctx.
func (f *follower) run(ctx context.Context) {
	surveys := make(chan survey)
	f.lines.Go(func() { f.survey(ctx, f.keys, surveys) })
	defer f.lines.Wait()
	for {
		select {
		case s := <-surveys:
			f.take(ctx, s)
		case r := <-f.reports:
			f.apply(r)
		case <-f.gathered:
			f.tellLosses()
			select {
			case f.surveySoon <- struct{}{}:
			default:
			}
		case <-ctx.Done():
			return
		}
	}
}

// survey asks who owns what, over and over, and how the cache is divided. It is of a goroutine of its own, because messages come in
// meanwhile.
func (f *follower) survey(ctx context.Context, keys remote.Keys, surveys chan<- survey) {
	for {
		s := survey{keys: keys, owners: make([]string, keys.Partitions())}
		for p := range s.owners {
			lookup, cancel := context.WithTimeout(ctx, surveyTimeout)
			s.owners[p], _ = f.client.Owner(lookup, keys.Channel(p, 0)) // as long as nobody knows, there is no connection
			cancel()
		}
		select {
		case surveys <- s:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(surveyEvery):
		case <-f.surveySoon:
		case <-ctx.Done():
			return
		}
		f.client.Reload(ctx)
		lookup, cancel := context.WithTimeout(ctx, surveyTimeout)
		if now, err := f.client.Keys(lookup, f.cache); err == nil { // the key may be away for a moment
			keys = now
		}
		cancel()
	}
}

// take has every partition listened to at its owner.
func (f *follower) take(ctx context.Context, s survey) {
	if s.keys.Partitions() != f.keys.Partitions() {
		f.abandon(fmt.Errorf("the cache has %d partitions now", s.keys.Partitions()))
		f.keys, f.parts = s.keys, make([]place, s.keys.Partitions())
	}
	wanted := make(map[string][]int)
	for p, owner := range s.owners {
		at := &f.parts[p]
		switch {
		case at.line == nil:
		case owner == "" || owner == at.line.addr:
			at.elsewhere = 0
			continue
		default:
			if at.elsewhere++; at.elsewhere < certain {
				continue
			}
			f.lose(p, errElsewhere)
		}
		if owner == "" {
			f.miss(p, "?", errors.New("no node is known to have it"))
			continue
		}
		wanted[owner] = append(wanted[owner], p)
	}
	f.tellLosses()
	for addr, partitions := range wanted {
		f.listen(ctx, addr, partitions)
	}
}

// listen makes a connection for these partitions.
func (f *follower) listen(ctx context.Context, addr string, partitions []int) {
	ctx, cancel := context.WithCancel(ctx)
	l := &line{addr: addr, partitions: make(map[string]int), left: len(partitions), cancel: cancel, reports: f.reports}
	for _, p := range partitions {
		l.partitions[f.keys.Channel(p, 0)] = p
		f.parts[p].line, f.parts[p].elsewhere = l, 0
	}
	f.lines.Go(func() {
		defer cancel()
		l.run(ctx, f.client)
	})
}

// apply takes what a line reports.
func (f *follower) apply(r report) {
	switch {
	case r.ended:
		for p := range f.parts {
			if f.parts[p].line == r.line {
				f.lose(p, r.err)
			}
		}
	case r.err != nil:
		if f.has(r.line, r.partition) {
			f.lose(r.partition, r.err)
		}
	case r.message != nil:
		if f.has(r.line, r.partition) {
			f.tell(*r.message)
		}
	default:
		f.heard(r.line)
	}
}

// has reports whether the line is that of the partition; it may have come late.
func (f *follower) has(l *line, p int) bool { return p < len(f.parts) && f.parts[p].line == l }

// heard says that a line listens to its partitions.
func (f *follower) heard(l *line) {
	n := 0
	for p := range f.parts {
		if f.parts[p].line == l {
			f.parts[p].missed = false
			n++
		}
	}
	if n > 0 {
		f.tellLosses() // which came before
		f.tell(Event{
			Kind: Listening, At: time.Now(), Channel: "tandem:" + f.cache + ":{*}:bus:0", Cache: f.cache,
			Node: l.addr, Partitions: n, Of: len(f.parts),
		})
	}
}

// lose takes a partition from its line.
func (f *follower) lose(p int, reason error) {
	l := f.parts[p].line
	f.parts[p].line, f.parts[p].elsewhere = nil, 0
	if l.left--; l.left == 0 {
		l.cancel()
	}
	f.miss(p, l.addr, reason)
}

// miss notes that a partition is not listened to, to be told in a moment.
func (f *follower) miss(p int, node string, reason error) {
	if f.parts[p].missed {
		return
	}
	f.parts[p].missed = true
	loss := f.losses[node]
	if loss == nil {
		loss = &Event{Kind: Lost, At: time.Now(), Cache: f.cache, Node: node, Of: len(f.parts), Err: reason}
		f.losses[node] = loss
	}
	loss.Partitions++
	if f.gathered == nil {
		f.gathered = time.After(gathering)
	}
}

func (f *follower) tellLosses() {
	f.gathered = nil
	losses := make([]*Event, 0, len(f.losses))
	for _, loss := range f.losses {
		losses = append(losses, loss)
	}
	clear(f.losses)
	slices.SortFunc(losses, func(a, b *Event) int { return a.At.Compare(b.At) })
	for _, loss := range losses {
		f.tell(*loss)
	}
}

// abandon gives up all lines.
func (f *follower) abandon(reason error) {
	for p := range f.parts {
		if f.parts[p].line != nil {
			f.lose(p, reason)
		}
	}
	f.tellLosses()
}
