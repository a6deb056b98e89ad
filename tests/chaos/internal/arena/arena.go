//go:build linux

package arena

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/tests/chaos/internal/clock"
	"github.com/tandemcache/tandem/tests/chaos/internal/history"
	"github.com/tandemcache/tandem/tests/chaos/internal/proxy"
	"github.com/tandemcache/tandem/tests/chaos/internal/source"
	"github.com/tandemcache/tandem/tests/chaos/internal/worker"
	"github.com/tandemcache/tandem/tests/redisserver"
)

const (
	grace    = time.Second
	patience = 60 * time.Second // for what must happen; only a machine that stands still comes near
)

// Options say how large an arena is.
type Options struct {
	Design       string
	Topology     Topology
	Seed         uint64
	MaxStaleness time.Duration
	Keys         int
	Here, Own    int // instances in this process, and in processes of their own
	ReadRate     int // per second and instance
	WriteRate    int
}

// Topology is what kind of Redis there is.
type Topology uint8

// The topologies.
const (
	Single        Topology = iota // one server, with a proxy for each instance
	WithSentinels                 // see Sentinels
	WithCluster                   // see Cluster
)

// String names the topology.
func (t Topology) String() string { return [...]string{"one server", "with Sentinels", "cluster"}[t] }

// Arena is one run's. Whoever made it must close it.
type Arena struct {
	Options Options
	Server  *redisserver.Server // Single's
	Admin   *redis.Client       // of Server, connected past the proxies
	// Sentinels and Cluster are the other topologies'.
	Sentinels *Sentinels
	Cluster   *Cluster
	Source    *source.Source
	Checker   *history.Checker
	Slots     []*Slot

	config worker.Config
	dir    string

	mu     sync.Mutex // protects what follows
	last   int        // instance's number
	events []Event
}

// Event is something that was done to the arena.
type Event struct {
	At   int64
	What string
}

// New starts everything, and waits until every instance trusts L1 and Redis.
func New(o Options) (*Arena, error) {
	a := &Arena{Options: o}
	if err := a.open(); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *Arena) open() (err error) {
	o := a.Options
	if a.dir, err = os.MkdirTemp("", "chaos-"); err != nil {
		return err
	}
	path := filepath.Join(a.dir, "source")
	if a.Source, err = source.Create(path, o.Keys); err != nil {
		return err
	}
	a.Checker = history.New(history.Options{Keys: o.Keys, Bound: o.MaxStaleness, Committed: a.Source.Read})
	if err := a.openRedis(); err != nil {
		return err
	}
	a.config = worker.Config{
		Slots: o.Here + o.Own, Design: o.Design, Source: path, Seed: o.Seed, MaxStaleness: o.MaxStaleness,
		Readers: 4, Writers: 2, ReadRate: o.ReadRate, WriteRate: o.WriteRate, LoadDelay: 4 * time.Millisecond,
	}
	for i := range o.Here + o.Own {
		s := &Slot{Index: i, Own: i >= o.Here, arena: a}
		a.Slots = append(a.Slots, s)
		for _, addr := range a.direct() {
			p, err := proxy.New(addr)
			if err != nil {
				return err
			}
			s.Proxies = append(s.Proxies, p)
		}
	}
	for _, s := range a.Slots {
		if err := s.start(a.config); err != nil {
			return err
		}
	}
	return a.AwaitTrust()
}

func (a *Arena) openRedis() (err error) {
	switch a.Options.Topology {
	case WithSentinels:
		a.Sentinels, err = openSentinels()
		return err
	case WithCluster:
		a.Cluster, err = openCluster()
		return err
	case Single:
	}
	a.Server, err = redisserver.Start(redisserver.Options{Dir: a.dir, Args: []string{"--enable-debug-command", "yes", "--dbfilename", snapshot}})
	if err != nil {
		return err
	}
	// Impatient: where the server stands still, the one who stopped it goes on.
	a.Admin = redis.NewClient(&redis.Options{
		Addr: a.Server.Addr(), MaxRetries: -1, DialerRetries: 1, ReadTimeout: 5 * time.Second, PoolTimeout: 5 * time.Second,
	})
	return nil
}

// direct returns where what listens that each instance has a proxy to.
func (a *Arena) direct() []string {
	switch {
	case a.Server != nil:
		return []string{a.Server.Addr()}
	case a.Cluster != nil:
		return a.Cluster.Addrs()
	}
	return nil
}

const snapshot = "dump.rdb"

// Snapshot is the file that the server saves to and loads when it starts.
func (a *Arena) Snapshot() string { return filepath.Join(a.dir, snapshot) }

func (a *Arena) number() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last++
	return a.last
}

// Notef remembers what is being done, for the story of a violation.
func (a *Arena) Notef(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, Event{At: clock.Now(), What: fmt.Sprintf(format, args...)})
}

// Events returns what was noted so far.
func (a *Arena) Events() []Event {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]Event(nil), a.events...)
}

// AwaitTrust waits until every instance trusts L1 and Redis.
func (a *Arena) AwaitTrust() error {
	deadline := time.Now().Add(patience)
	for _, s := range a.Slots {
		for !s.trusted() {
			select {
			case <-s.Worker().Ended():
				return errors.Join(fmt.Errorf("arena: the instance in slot %d has ended", s.Index), s.close())
			case <-time.After(2 * time.Millisecond):
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("arena: instance in slot %d does not trust Redis after %v", s.Index, patience)
			}
		}
	}
	return nil
}

// Regained returns how long after at the last instance regained trust that had lost it.
func (a *Arena) Regained(at int64) time.Duration {
	longest := time.Duration(0)
	for _, s := range a.Slots {
		longest = max(longest, time.Duration(s.regained(at)-at))
	}
	return longest
}

// Felt returns what all instances have noticed so far.
func (a *Arena) Felt() worker.Felt {
	var sum worker.Felt
	for _, s := range a.Slots {
		f := s.feltSoFar()
		sum.Sessions += f.Sessions
		sum.Errors += f.Errors
	}
	return sum
}

// Each tells every instance to do something, at the same time, and waits for all.
func (a *Arena) Each(op worker.Op, rate int) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	errs := make([]error, len(a.Slots))
	var all sync.WaitGroup
	for i, s := range a.Slots {
		all.Go(func() { errs[i] = s.Worker().Do(ctx, op, rate) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// Tell is Each without waiting, for instances that may stand still or be gone.
func (a *Arena) Tell(op worker.Op, rate int) {
	for _, s := range a.Slots {
		s.Worker().Tell(op, rate)
	}
}

// Finish lets the writes end, waits until the last of them must be seen everywhere, reads every key on every instance, and
// returns the judgement of the whole run.
func (a *Arena) Finish() (history.Result, error) {
	a.Notef("writes end")
	err := a.Each(worker.Write, 0)
	time.Sleep(a.Options.MaxStaleness + 50*time.Millisecond)
	a.Notef("sweep")
	err = errors.Join(err, a.Each(worker.Sweep, 0))
	for _, s := range a.Slots {
		err = errors.Join(err, s.close())
	}
	r := a.Checker.Result()
	if n := a.Checker.Waiting(); n > 0 || r.Late > 0 {
		err = errors.Join(err, fmt.Errorf("arena: %d reads were not judged, %d records or reads came too late", n, r.Late))
	}
	return r, err
}

// Close ends everything that is left.
func (a *Arena) Close() error {
	var errs []error
	for _, s := range a.Slots {
		errs = append(errs, s.close())
		for _, p := range s.Proxies {
			p.Close()
		}
	}
	if a.Admin != nil {
		_ = a.Admin.Close()
	}
	if a.Server != nil {
		errs = append(errs, a.Server.Close())
	}
	if a.Sentinels != nil {
		errs = append(errs, a.Sentinels.close())
	}
	if a.Cluster != nil {
		errs = append(errs, a.Cluster.close())
	}
	if a.Source != nil {
		errs = append(errs, a.Source.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(a.dir))...)
}

// Said returns the last lines of the servers' logs, for what a fault did that it should not have.
func (a *Arena) Said() string {
	servers := []*redisserver.Server{a.Server}
	if a.Sentinels != nil {
		servers = slices.Concat(a.Sentinels.nodes, a.Sentinels.sentinels)
	}
	if a.Cluster != nil {
		for _, n := range a.Cluster.Nodes() {
			servers = append(servers, n.Server)
		}
	}
	var s strings.Builder
	for _, srv := range servers {
		if srv != nil {
			fmt.Fprintf(&s, "redis-server at %s:\n%s\n", srv.Addr(), srv.Output())
		}
	}
	return s.String()
}
