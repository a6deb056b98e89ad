package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/fleet"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/measure"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/source"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/ui"
)

const (
	// A hit in L1 takes about as long as reading the clock twice, so it is timed by the batch.
	localBatch   = 1000
	localBatches = 1000
	localKeys    = 64
	// localAttempts: see timeLocalHits.
	localAttempts = 3
)

// Latency is what a hit costs, for one reader at a time.
type Latency struct {
	Local  measure.Spread `json:"l1"` // the samples are averages of a batch
	Batch  int            `json:"l1_batch"`
	Remote measure.Spread `json:"l2"`
}

func (d *demo) showLatency(ctx context.Context) error {
	d.out.Step(2, "What a hit costs", "One reader. L1 is in the process, L2 is Redis.")
	l, err := d.latency(ctx)
	if err != nil {
		return err
	}
	d.report.Latency = l
	d.out.Quantiles("L1 hit, average of a batch", l.Local, ui.Plural(l.Local.Samples*l.Batch, "Get"))
	d.out.Quantiles("L2 hit", l.Remote, ui.Plural(l.Remote.Samples, "Get"))
	d.out.OK("counted: every one of them was the hit that it should be, and none asked the source")
	return nil
}

func (d *demo) latency(ctx context.Context) (*Latency, error) {
	rows := d.rows(10_000, d.Samples)
	// A Set leaves the value in L2 and in no L1.
	writer, reader := d.fleet.Instances[0], d.fleet.Instances[1]
	for _, row := range rows {
		if err := writer.Cache.Set(ctx, row.Key, row.User()); err != nil {
			return nil, fmt.Errorf("Set(%s): %w", row.Key, err)
		}
	}
	remote, err := d.remoteHits(ctx, reader, rows)
	if err != nil {
		return nil, err
	}
	local, err := d.localHits(ctx, reader, rows)
	if err != nil {
		return nil, err
	}
	return &Latency{Local: local, Batch: localBatch, Remote: remote}, nil
}

func (d *demo) remoteHits(ctx context.Context, i *fleet.Instance, rows []*source.Row) (measure.Spread, error) {
	before := i.Cache.Stats()
	samples := make([]time.Duration, 0, len(rows))
	for _, row := range rows {
		began := time.Now()
		u, err := i.Cache.Get(ctx, row.Key)
		samples = append(samples, time.Since(began))
		if err != nil || u != row.User() {
			return measure.Spread{}, fmt.Errorf("Get(%s) from L2: %+v, %w", row.Key, u, err)
		}
	}
	after := i.Cache.Stats()
	if hits := after.RemoteHits - before.RemoteHits; hits != uint64(len(rows)) || after.Loads != before.Loads {
		return measure.Spread{}, fmt.Errorf("of %d Gets of keys that L2 has, it answered %d, and %d asked the source",
			len(rows), hits, after.Loads-before.Loads)
	}
	return measure.Of(samples), nil
}

func (d *demo) localHits(ctx context.Context, i *fleet.Instance, rows []*source.Row) (measure.Spread, error) {
	var keys []string
	err := until(ctx, d.loadLimit(), func() (found bool, err error) {
		keys, err = localKeysOf(ctx, i, rows[max(0, len(rows)-localKeys):])
		return len(keys) > 0, err
	})
	if err != nil {
		return measure.Spread{}, fmt.Errorf("instance %d keeps nothing in L1: %w", i.Index+1, err)
	}
	for range localAttempts {
		var samples []time.Duration
		if samples, err = timeLocalHits(ctx, i, keys); err == nil {
			return measure.Of(samples), nil
		}
	}
	return measure.Spread{}, err
}

// localKeysOf returns the keys that L1 has, and asks for the others: Ristretto may have declined some, and on a machine that has
// stalled L1 may have been emptied.
func localKeysOf(ctx context.Context, i *fleet.Instance, rows []*source.Row) ([]string, error) {
	var keys []string
	for _, row := range rows {
		if _, ok := i.Local(row.Key); ok {
			keys = append(keys, row.Key)
		} else if _, err := i.Cache.Get(ctx, row.Key); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// timeLocalHits returns the average of each batch, or an error if any Get was not a hit: on a machine that stalls for about
// MaxStaleness, L1 is not served for a moment.
func timeLocalHits(ctx context.Context, i *fleet.Instance, keys []string) ([]time.Duration, error) {
	before := i.Cache.Stats().LocalHits
	samples := make([]time.Duration, 0, localBatches)
	for range localBatches {
		began := time.Now()
		for n := range localBatch {
			if _, err := i.Cache.Get(ctx, keys[n%len(keys)]); err != nil {
				return nil, err
			}
		}
		samples = append(samples, time.Since(began)/localBatch)
	}
	if hits := i.Cache.Stats().LocalHits - before; hits != localBatch*localBatches {
		return nil, fmt.Errorf("of %d Gets of keys that L1 has, it answered %d", localBatch*localBatches, hits)
	}
	return samples, nil
}
