package peers

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/tandemcache/tandem/tests/bench/internal/workload"
)

// Propagator is a pair of processes, A and B, of which A makes changes that B is to notice. It is used for one change at a
// time.
type Propagator interface {
	// Prepare makes B hold what the next change is about.
	Prepare() error
	// Change lets A make the change, and returns when A's call does.
	Change() error
	// Noticed reports whether B has noticed the last change. It is polled without pause while Change runs.
	Noticed() bool
	Close() error
}

// PropagationPeer is a competitor in noticing changes.
type PropagationPeer struct {
	Name  string
	Asked string
	Open  func(addr string) (Propagator, error)
}

// PropagationBaseline is what the others are compared with.
const PropagationBaseline = "PUBLISH to Receive"

// Propagation returns those who notice changes.
func Propagation() []PropagationPeer {
	return []PropagationPeer{
		{
			Name:  PropagationBaseline,
			Asked: "A publishes a number with go-redis, a goroutine of B that blocks in Receive stores it, B looks at it: the hop itself, with no cache on either side",
			Open:  openPublish,
		},
		{
			Name:  "rueidis DoCache",
			Asked: "A sets the key, Redis tells B, whose callback stores that it has been told, after the entry is gone; B looks at that",
			Open:  openTracking,
		},
		{
			Name:  TandemName,
			Asked: "A calls Invalidate, B looks in L1: a Get under a context that has ended returns what L1 has and asks nobody else",
			Open:  openTandemPair,
		},
	}
}

type publishPair struct {
	rdb    *redis.Client
	sub    *redis.PubSub
	number int64
	seen   atomic.Int64
	done   chan struct{}
}

const publishChannel = "bench"

func openPublish(addr string) (Propagator, error) {
	p := &publishPair{rdb: redis.NewClient(&redis.Options{Addr: addr}), done: make(chan struct{})}
	ctx := context.Background()
	p.sub = p.rdb.Subscribe(ctx, publishChannel)
	if _, err := p.sub.Receive(ctx); err != nil { // the confirmation
		return nil, errors.Join(err, p.sub.Close(), p.rdb.Close())
	}
	go p.receive(ctx)
	return p, nil
}

func (p *publishPair) receive(ctx context.Context) {
	defer close(p.done)
	for {
		m, err := p.sub.ReceiveMessage(ctx)
		if err != nil {
			return
		}
		if n, err := strconv.ParseInt(m.Payload, 10, 64); err == nil {
			p.seen.Store(n)
		}
	}
}

func (p *publishPair) Prepare() error {
	p.number++
	return nil
}

func (p *publishPair) Change() error {
	return p.rdb.Publish(context.Background(), publishChannel, p.number).Err()
}

func (p *publishPair) Noticed() bool { return p.seen.Load() == p.number }

func (p *publishPair) Close() error {
	err := p.sub.Close()
	<-p.done
	return errors.Join(err, p.rdb.Close())
}

const pairKey = "user:1"

type trackingPair struct {
	a, b rueidis.Client
	data string
	told atomic.Bool
}

func openTracking(addr string) (Propagator, error) {
	data, err := encode(workload.NewUser(1))
	if err != nil {
		return nil, err
	}
	p := &trackingPair{data: rueidis.BinaryString(data)}
	if p.a, err = rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true}); err != nil {
		return nil, fmt.Errorf("rueidis: %w", err)
	}
	p.b, err = rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{addr}, OnInvalidations: func([]rueidis.RedisMessage) { p.told.Store(true) },
	})
	if err != nil {
		p.a.Close()
		return nil, fmt.Errorf("rueidis: %w", err)
	}
	if err := p.Change(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *trackingPair) Prepare() error {
	if _, err := doCache(context.Background(), p.b, pairKey).AsBytes(); err != nil {
		return err
	}
	if !doCache(context.Background(), p.b, pairKey).IsCacheHit() {
		return errors.New("rueidis: B does not hold what it has read")
	}
	p.told.Store(false)
	return nil
}

func (p *trackingPair) Change() error {
	return p.a.Do(context.Background(), p.a.B().Set().Key(pairKey).Value(p.data).Ex(ttl).Build()).Error()
}

func (p *trackingPair) Noticed() bool { return p.told.Load() }

func (p *trackingPair) Close() error {
	p.a.Close()
	p.b.Close()
	return nil
}

type tandemPair struct {
	a, b  *tandemReader
	ended context.Context //nolint:containedctx // it has ended for good, and is what Noticed asks with
}

func openTandemPair(addr string) (Propagator, error) {
	name := "bench-" + strconv.FormatInt(instances.Add(1), 10)
	opts := userOptions{
		Load: func(context.Context, string) (workload.User, error) { return workload.NewUser(1), nil },
		TTL:  ttl, LocalTTL: ttl, RedisTimeout: patience, Logger: quiet,
	}
	a, err := openTandem(name, addr, opts)
	if err != nil {
		return nil, err
	}
	b, err := openTandem(name, addr, opts)
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	return &tandemPair{a: a, b: b, ended: ended}, nil
}

func (p *tandemPair) Prepare() error {
	if _, err := p.b.Read(pairKey); err != nil {
		return err
	}
	if p.Noticed() {
		return errors.New("tandem: B does not hold what it has read")
	}
	return nil
}

func (p *tandemPair) Change() error { return p.a.cache.Invalidate(context.Background(), pairKey) }

func (p *tandemPair) Noticed() bool {
	_, err := p.b.cache.Get(p.ended, pairKey)
	return err != nil
}

func (p *tandemPair) Close() error { return errors.Join(p.a.Close(), p.b.Close()) }
