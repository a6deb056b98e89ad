package section

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/tandemcache/tandem/tests/bench/internal/peers"
	"github.com/tandemcache/tandem/tests/bench/internal/workload"
)

// contestant is a competitor at work, with the source that it loads from.
type contestant struct {
	peers.Reader
	name  string
	dry   atomic.Bool // the source is asked for nothing any more
	loads atomic.Int64
}

// load answers at once, from the key alone.
func (c *contestant) load(key string) (workload.User, error) {
	c.loads.Add(1)
	if c.dry.Load() {
		return workload.User{}, fmt.Errorf("%s: key %q: %w", c.name, key, peers.ErrCold)
	}
	id, err := workload.ID(key)
	if err != nil {
		return workload.User{}, err
	}
	return workload.NewUser(id), nil
}

type contestants []*contestant

// open opens every peer. source wraps what they load from; nil leaves it as it is.
func open(addr string, list []peers.Peer, source func(*contestant) peers.LoadFunc) (contestants, error) {
	var all contestants
	for _, p := range list {
		c, err := openOne(p, peers.Setting{Addr: addr}, source)
		if err != nil {
			return nil, errors.Join(err, all.close())
		}
		all = append(all, c)
	}
	return all, nil
}

func openOne(p peers.Peer, where peers.Setting, source func(*contestant) peers.LoadFunc) (*contestant, error) {
	c := &contestant{name: p.Name}
	where.Load = c.load
	if source != nil {
		where.Load = source(c)
	}
	var err error
	if c.Reader, err = p.Open(where); err != nil {
		return nil, fmt.Errorf("opening %s: %w", p.Name, err)
	}
	return c, nil
}

func (all contestants) close() error {
	var failed []error
	for _, c := range all {
		if err := c.Close(); err != nil {
			failed = append(failed, fmt.Errorf("closing %s: %w", c.name, err))
		}
	}
	return errors.Join(failed...)
}

func (all contestants) names() []string {
	names := make([]string, len(all))
	for i, c := range all {
		names[i] = c.name
	}
	return names
}

// rewarm lets one contestant read all keys again, as warm does.
func (c *contestant) rewarm(keys []string) error {
	c.dry.Store(false)
	defer c.dry.Store(true)
	if err := c.readAll(keys); err != nil {
		return fmt.Errorf("warming %s: %w", c.name, err)
	}
	return nil
}

// state is what the contestant has to say about itself, in brackets.
func (c *contestant) state() string {
	if s, ok := c.Reader.(peers.Stater); ok {
		return " (" + s.State() + ")"
	}
	return ""
}

const warmers = 16

// warm lets every contestant read all keys once, and checks what it returns. From then on none may load.
func (all contestants) warm(keys []string) error {
	for _, c := range all {
		if err := c.rewarm(keys); err != nil {
			return err
		}
	}
	return nil
}

func (c *contestant) readAll(keys []string) error {
	var readers sync.WaitGroup
	failed := make([]error, warmers)
	for worker := range warmers {
		readers.Go(func() {
			for _, key := range workload.Share(keys, worker, warmers) {
				if err := c.check(key); err != nil {
					failed[worker] = err
					return
				}
			}
		})
	}
	readers.Wait()
	return errors.Join(failed...)
}

// check reads one key and compares, except with the one that answers nothing.
func (c *contestant) check(key string) error {
	got, err := c.Read(key)
	if err != nil || c.name == peers.Empty().Name {
		return err
	}
	want, err := workload.ID(key)
	if err == nil && got != want {
		err = fmt.Errorf("key %q: got the value of %d", key, got)
	}
	return err
}
