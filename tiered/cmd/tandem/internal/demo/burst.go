package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/source"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/ui"
)

// Burst is many readers of one key that nobody has.
type Burst struct {
	Key        string        `json:"key"`
	Readers    int           `json:"readers"`
	Loads      int64         `json:"loads"`
	Wall       time.Duration `json:"wall_ns"`        // until the last reader had its value
	SourceTook time.Duration `json:"source_took_ns"` // for the load
}

func (d *demo) showBurst(ctx context.Context) error {
	d.out.Step(1, fmt.Sprintf("%s ask for one cold key at once", ui.Plural(d.Readers, "reader")),
		"Neither tier has it. Without a cache that coordinates, each of them would ask the source.")
	b, err := d.burst(ctx, "user:1842")
	if err != nil {
		return err
	}
	d.report.Burst = b
	d.out.Fact("loads at the source", ui.Count(b.Loads), "of "+b.Key)
	d.out.Fact("the last reader had its value after", ui.Duration(b.Wall), "the source took "+ui.Duration(b.SourceTook))
	if b.Loads != 1 {
		return fmt.Errorf("one key that nobody had was loaded %d times, not once", b.Loads)
	}
	d.out.OK(fmt.Sprintf("one load for %d readers on %d instances", b.Readers, d.Instances))
	return nil
}

func (d *demo) burst(ctx context.Context, key string) (*Burst, error) {
	row := d.source.Row(key)
	want := row.User()
	errs := make([]error, d.Readers)
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	ready.Add(d.Readers)
	for r := range d.Readers {
		cache := d.fleet.Instances[r%d.Instances].Cache
		done.Go(func() {
			ready.Done()
			<-start
			u, err := cache.Get(ctx, key)
			if err == nil && u != want {
				err = errors.Join(source.CheckUser(key, u), fmt.Errorf("a reader got version %d of %s", u.Version, key))
			}
			errs[r] = err
		})
	}
	ready.Wait()
	began := time.Now()
	close(start)
	done.Wait()
	b := &Burst{Key: key, Readers: d.Readers, Wall: time.Since(began)}
	b.Loads, b.SourceTook = row.Loads()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}
