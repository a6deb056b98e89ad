package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/fleet"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/source"
)

// OldLoad is a load that read the source before a change and came back after it.
type OldLoad struct {
	Key      string `json:"key"`
	Returned uint64 `json:"returned_version"` // to the caller who had asked before the change
	Current  uint64 `json:"current_version"`  // what every instance reads afterwards
	Refused  uint64 `json:"refused"`          // by how much Stats().Refused rose
}

func (d *demo) showOldLoad(ctx context.Context) error {
	d.out.Step(4, "A slow load comes back after the invalidation",
		"It has read the old version. Stored now, that would stay until its TTL.")
	o, err := d.oldLoad(ctx, "user:99")
	if err != nil {
		return err
	}
	d.report.OldLoad = o
	d.out.Fact("the caller of before the change got", version(o.Returned), "which was right when it asked")
	d.out.Fact("every instance reads since", version(o.Current), "the newest at the source")
	d.out.Fact("stores refused", fmt.Sprint(o.Refused), "Stats().Refused on the loading instance")
	d.out.OK("the old value is in neither tier")
	return nil
}

func version(v uint64) string { return fmt.Sprintf("version %d", v) }

func (d *demo) oldLoad(ctx context.Context, key string) (*OldLoad, error) {
	row := d.source.Row(key)
	loader, writer := d.fleet.Instances[0], d.fleet.Instances[1]
	before := loader.Cache.Stats().Refused
	old := row.Version()

	got, release, err := d.startHeldLoad(ctx, loader, row)
	if err != nil {
		return nil, err
	}
	defer release()
	current := row.Change()
	if err := writer.Cache.Invalidate(ctx, key); err != nil {
		return nil, err
	}
	release()
	r := <-got
	if r.err != nil {
		return nil, r.err
	}
	if r.user != source.UserAt(key, old) {
		return nil, fmt.Errorf("the held load returned version %d, not %d", r.user.Version, old)
	}
	if err := d.everyone(ctx, row); err != nil {
		return nil, fmt.Errorf("an old load was stored: %w", err)
	}
	o := &OldLoad{Key: key, Returned: old, Current: current, Refused: loader.Cache.Stats().Refused - before}
	if o.Refused != 1 {
		return nil, fmt.Errorf("Stats().Refused rose by %d, not by 1", o.Refused)
	}
	return o, nil
}

type result struct {
	user source.User
	err  error
}

// startHeldLoad has an instance load a row, and returns when the load has read it and does not go on before release.
func (d *demo) startHeldLoad(ctx context.Context, i *fleet.Instance, row *source.Row) (<-chan result, func(), error) {
	hold := row.Hold()
	got := make(chan result, 1)
	go func() {
		u, err := i.Cache.Get(ctx, row.Key)
		got <- result{u, err}
	}()
	timer := time.NewTimer(waitLimit)
	defer timer.Stop()
	select {
	case <-hold.Reached:
		return got, hold.Release, nil
	case r := <-got:
		hold.Release()
		return nil, nil, errors.Join(fmt.Errorf("Get(%s) did not load", row.Key), r.err)
	case <-timer.C:
		hold.Release()
		return nil, nil, fmt.Errorf("the load of %s did not begin within %v", row.Key, waitLimit)
	}
}
