package peers

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/tandemcache/tandem/tests/bench/internal/workload"
	"github.com/tandemcache/tandem/tiered"
)

// Propagator is a pair of processes, A and B, of which A makes changes that B is to notice. It is used for one change at a
// time.
type Propagator interface {
	// Prepare makes B hold what the next change is about.
	Prepare() error
	// Change lets A make the change, and returns when A's call does.
	Change() error
	// Noticed has the time at which B had noticed the last change, by the clock of whoever of B's goroutines did. It has room for it.
	Noticed() <-chan time.Time
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
			Asked: "A publishes a number with go-redis, a goroutine of B that blocks in Receive gets it: the hop itself, with no cache on either side",
			Open:  func(addr string) (Propagator, error) { return openPublish(addr, publish, false) },
		},
		{
			Name:  "UNLINK and PUBLISH in a script",
			Asked: "the same with the commands of an invalidation, and with A subscribed too, as each instance of a cache is: what tandem's costs, without tandem",
			Open:  func(addr string) (Propagator, error) { return openPublish(addr, unlinkAndPublish, true) },
		},
		{
			Name:  "rueidis DoCache",
			Asked: "A sets the key, Redis tells B, whose callback is called after the entry is gone",
			Open:  openTracking,
		},
		{
			Name:  TandemName,
			Asked: "A calls Invalidate, B has dropped its entry: the time that B's Observer is told, taken by who has dropped it. Then B looks in L1 whether it is gone",
			Open:  openTandemPair,
		},
	}
}

// publishPair is a change that is nothing but a message.
type publishPair struct {
	rdb      *redis.Client
	channel  string
	change   changeFunc
	subs     []*redis.PubSub
	noticed  chan time.Time
	receiver sync.WaitGroup
}

type changeFunc func(ctx context.Context, rdb *redis.Client, channel string) error

func publish(ctx context.Context, rdb *redis.Client, channel string) error {
	return rdb.Publish(ctx, channel, pairKey).Err()
}

var unlinkScript = redis.NewScript("local n = redis.call('UNLINK', unpack(KEYS)) redis.call('PUBLISH', ARGV[1], ARGV[2]) return n")

func unlinkAndPublish(ctx context.Context, rdb *redis.Client, channel string) error {
	return unlinkScript.Run(ctx, rdb, []string{channel + pairKey}, channel, pairKey).Err()
}

// openPublish subscribes B, and A if it is to hear its own messages.
func openPublish(addr string, change changeFunc, aHears bool) (Propagator, error) {
	p := &publishPair{
		rdb: redis.NewClient(&redis.Options{Addr: addr}), channel: "bench-" + strconv.FormatInt(instances.Add(1), 10),
		change: change, noticed: make(chan time.Time, 1),
	}
	err := p.subscribe(func() { p.noticed <- time.Now() })
	if err == nil && aHears {
		err = p.subscribe(func() {})
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// subscribe calls received for each message.
func (p *publishPair) subscribe(received func()) error {
	ctx := context.Background()
	sub := p.rdb.Subscribe(ctx, p.channel)
	p.subs = append(p.subs, sub)
	if _, err := sub.Receive(ctx); err != nil { // the confirmation
		return err
	}
	p.receiver.Go(func() {
		for {
			if _, err := sub.ReceiveMessage(ctx); err != nil {
				return
			}
			received()
		}
	})
	return nil
}

func (*publishPair) Prepare() error { return nil }

func (p *publishPair) Change() error {
	return p.change(context.Background(), p.rdb, p.channel)
}

func (p *publishPair) Noticed() <-chan time.Time { return p.noticed }

func (p *publishPair) Close() error {
	var errs []error
	for _, sub := range p.subs {
		errs = append(errs, sub.Close())
	}
	p.receiver.Wait()
	return errors.Join(append(errs, p.rdb.Close())...)
}

const pairKey = "user:1"

type trackingPair struct {
	a, b    rueidis.Client
	data    string
	noticed chan time.Time // from the last Prepare on
	holds   atomic.Bool    // B holds the entry, and is to be told
}

func openTracking(addr string) (Propagator, error) {
	data, err := encode(workload.NewUser(1))
	if err != nil {
		return nil, err
	}
	p := &trackingPair{data: rueidis.BinaryString(data), noticed: make(chan time.Time, 1)}
	if p.a, err = rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true}); err != nil {
		return nil, fmt.Errorf("rueidis: %w", err)
	}
	p.b, err = rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{addr}, OnInvalidations: func([]rueidis.RedisMessage) {
			if now := time.Now(); p.holds.CompareAndSwap(true, false) {
				p.noticed <- now
			}
		},
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
	p.holds.Store(true)
	return nil
}

func (p *trackingPair) Change() error {
	return p.a.Do(context.Background(), p.a.B().Set().Key(pairKey).Value(p.data).Ex(ttl).Build()).Error()
}

func (p *trackingPair) Noticed() <-chan time.Time { return p.noticed }

func (p *trackingPair) Close() error {
	p.a.Close()
	p.b.Close()
	return nil
}

type tandemPair struct {
	a, b  *tandemReader
	ears  *ears
	ended context.Context //nolint:containedctx // it has ended for good: a Get with it returns what L1 has, and asks nobody else
}

// ears are B's Observer.
type ears struct {
	tiered.NopObserver

	noticed chan time.Time
}

func (e *ears) InvalidationReceived(i tiered.Invalidation) { e.noticed <- i.Received }

func openTandemPair(addr string) (Propagator, error) {
	name := "bench-" + strconv.FormatInt(instances.Add(1), 10)
	opts := userOptions{
		Load: func(context.Context, string) (workload.User, error) { return workload.NewUser(1), nil },
		TTL:  ttl, LocalTTL: ttl, RedisTimeout: patience, Logger: quiet,
	}
	a, err := openTandem(name, Setting{Addr: addr}.client(), opts)
	if err != nil {
		return nil, err
	}
	ears := &ears{noticed: make(chan time.Time, 1)}
	opts.Observer = ears
	b, err := openTandem(name, Setting{Addr: addr}.client(), opts)
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	return &tandemPair{a: a, b: b, ears: ears, ended: ended}, nil
}

func (p *tandemPair) Prepare() error {
	if p.holds() {
		return errors.New("tandem: B holds what it has said to have dropped")
	}
	if _, err := p.b.Read(pairKey); err != nil {
		return err
	}
	if !p.holds() {
		return errors.New("tandem: B does not hold what it has read")
	}
	return nil
}

func (p *tandemPair) holds() bool {
	_, err := p.b.cache.Get(p.ended, pairKey)
	return err == nil
}

func (p *tandemPair) Change() error { return p.a.cache.Invalidate(context.Background(), pairKey) }

func (p *tandemPair) Noticed() <-chan time.Time { return p.ears.noticed }

func (p *tandemPair) Close() error { return errors.Join(p.a.Close(), p.b.Close()) }
