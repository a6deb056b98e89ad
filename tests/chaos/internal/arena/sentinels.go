//go:build linux

package arena

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/tests/chaos/internal/proxy"
	"github.com/tandemcache/tandem/tests/redisserver"
)

const (
	masterName = "it"
	nodes      = 3
)

// Sentinels are a master, two replicas and three Sentinels, on two sides of a network that can be cut: the first node and
// the instances in even slots are on the near side, everything else is on the far side.
//
// All connections from one side to the other go through proxies, and no others do. The first node is known to everyone by
// the address of its proxy; those on the near side translate it, and translate all other addresses to proxies of their own.
type Sentinels struct {
	nodes     []*redisserver.Server
	sentinels []*redisserver.Server
	first     *proxy.Proxy            // far side to first node
	outward   map[string]*proxy.Proxy // near side to the others, by their address
}

func openSentinels() (*Sentinels, error) {
	s := &Sentinels{outward: map[string]*proxy.Proxy{}}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *Sentinels) open() error {
	// A master that hears of no replica refuses writes within two seconds: acknowledgements have a resolution of one.
	common := []string{"--min-replicas-to-write", "1", "--min-replicas-max-lag", "1", "--repl-ping-replica-period", "1", "--repl-diskless-sync-delay", "0"}
	master, err := redisserver.Start(redisserver.Options{Args: common, Config: "# what announce adds\n"})
	if err != nil {
		return err
	}
	s.nodes = append(s.nodes, master)
	if s.first, err = proxy.New(master.Addr()); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(s.first.Addr())
	if err != nil {
		return err
	}
	if err := s.announce(); err != nil {
		return err
	}
	for range nodes - 1 {
		// In a file that Redis rewrites: one that was promoted, killed and started again must not come back as a replica, while
		// the Sentinels take it for the master and the others for its replicas.
		n, err := redisserver.Start(redisserver.Options{Args: common, Config: "replicaof " + host + " " + port + "\n"})
		if err != nil {
			return err
		}
		s.nodes = append(s.nodes, n)
	}
	config := fmt.Sprintf(`sentinel monitor %[1]s %[2]s %[3]s 2
sentinel down-after-milliseconds %[1]s 1000
sentinel failover-timeout %[1]s 6000
sentinel parallel-syncs %[1]s 2
`, masterName, host, port)
	for range nodes {
		n, err := redisserver.Start(redisserver.Options{Args: []string{"--sentinel"}, Config: config})
		if err != nil {
			return err
		}
		s.sentinels = append(s.sentinels, n)
	}
	for _, n := range append(s.sentinels, s.nodes[1:]...) {
		if s.outward[n.Addr()], err = proxy.New(n.Addr()); err != nil {
			return err
		}
	}
	return s.AwaitWhole()
}

// announce has the first node say that it is where its proxy is, also when it starts again: a Sentinel that has once seen it
// at its own address takes it for two replicas for ever.
func (s *Sentinels) announce() error {
	_, port, err := net.SplitHostPort(s.first.Addr())
	if err != nil {
		return err
	}
	return with(s.nodes[0], func(ctx context.Context, rdb *redis.Client) error {
		return errors.Join(rdb.ConfigSet(ctx, "replica-announce-ip", "127.0.0.1").Err(),
			rdb.ConfigSet(ctx, "replica-announce-port", port).Err(), rdb.ConfigRewrite(ctx).Err())
	})
}

func with(n *redisserver.Server, f func(context.Context, *redis.Client) error) error {
	rdb := redis.NewClient(&redis.Options{Addr: n.Addr(), MaxRetries: -1, DialerRetries: 1, DialTimeout: time.Second, ReadTimeout: time.Second})
	defer rdb.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return f(ctx, rdb)
}

// addresses returns what an instance in a slot is told: its Sentinels, and where it really dials.
func (s *Sentinels) addresses(slot int) (sentinels []string, route map[string]string) {
	route = map[string]string{}
	for _, n := range s.sentinels {
		sentinels = append(sentinels, n.Addr())
	}
	if isNear(slot) {
		route[s.first.Addr()] = s.nodes[0].Addr()
		for addr, p := range s.outward {
			route[addr] = p.Addr()
		}
	}
	return sentinels, route
}

func isNear(slot int) bool { return slot%2 == 0 }

// Near returns the slots on the near side.
func (a *Arena) Near() []*Slot {
	var near []*Slot
	for _, s := range a.Slots {
		if isNear(s.Index) {
			near = append(near, s)
		}
	}
	return near
}

// Master returns the server that the Sentinels take for the master.
func (s *Sentinels) Master() (*redisserver.Server, error) {
	for _, sentinel := range s.sentinels {
		var addr []string
		if with(sentinel, func(ctx context.Context, rdb *redis.Client) (err error) {
			addr, err = rdb.Do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", masterName).StringSlice()
			return err
		}) != nil || len(addr) != 2 {
			continue
		}
		at := net.JoinHostPort(addr[0], addr[1])
		if at == s.first.Addr() {
			return s.nodes[0], nil
		}
		for _, n := range s.nodes {
			if n.Addr() == at {
				return n, nil
			}
		}
	}
	return nil, errors.New("arena: no Sentinel knows a master")
}

// Failover has a Sentinel promote a replica while the master lives. After a stall the Sentinel may know no replica that is good
// enough, or be at one of its own accord.
func (s *Sentinels) Failover() error {
	return await(func() error {
		return with(s.sentinels[0], func(ctx context.Context, rdb *redis.Client) error {
			return rdb.Do(ctx, "SENTINEL", "FAILOVER", masterName).Err()
		})
	})
}

// Cut separates the two sides. Whole mends it.
func (s *Sentinels) Cut() {
	s.each(func(p *proxy.Proxy) { p.Set(proxy.AnyKind, proxy.Both, proxy.Rule{Hold: true}) })
}

// Mend ends what Cut began.
func (s *Sentinels) Mend() error {
	var errs []error
	s.each(func(p *proxy.Proxy) { errs = append(errs, p.Pass()) })
	return errors.Join(errs...)
}

func (s *Sentinels) each(f func(*proxy.Proxy)) {
	if s.first != nil {
		f(s.first)
	}
	for _, p := range s.outward {
		f(p)
	}
}

// AwaitWhole waits until there is one master with two replicas, and every Sentinel knows of all.
func (s *Sentinels) AwaitWhole() error {
	if err := await(s.whole); err != nil {
		return fmt.Errorf("arena: not whole after %v: %w", patience, err)
	}
	return nil
}

func (s *Sentinels) whole() error {
	master, err := s.Master()
	if err != nil {
		return err
	}
	if err := with(master, func(ctx context.Context, rdb *redis.Client) error {
		info, err := rdb.Info(ctx, "replication").Result()
		if err == nil && (!strings.Contains(info, "role:master") || !strings.Contains(info, "min_slaves_good_slaves:2")) {
			return fmt.Errorf("the master says:\n%s", info)
		}
		return err
	}); err != nil {
		return err
	}
	for _, sentinel := range s.sentinels {
		if err := with(sentinel, func(ctx context.Context, rdb *redis.Client) error {
			info, err := rdb.Info(ctx, "sentinel").Result()
			if err == nil && !strings.Contains(info, "status=ok") || !strings.Contains(info, "slaves=2,sentinels=3") {
				return fmt.Errorf("a Sentinel says:\n%s", info)
			}
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sentinels) close() error {
	var errs []error
	for _, n := range append(s.sentinels, s.nodes...) {
		errs = append(errs, n.Close())
	}
	s.each((*proxy.Proxy).Close)
	return errors.Join(errs...)
}
