package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/tiered"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/history"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/source"
)

// Instance is one instance of the cache, with a Redis client and connections of its own, as if it were alone in a process.
type Instance struct {
	Index int
	Cache *tiered.Cache[source.User]

	rdb          redis.UniversalClient
	lines        lines
	redisTimeout time.Duration // of the cache
}

// ended is a context that has ended. Under it, a Get returns what L1 has, and asks nobody else.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// Local returns what L1 holds for key and would serve now.
func (i *Instance) Local(key string) (source.User, bool) {
	u, err := i.Cache.Get(ended, key)
	return u, err == nil
}

// Read gets a row's value and has t judge it. The error is Get's.
func (i *Instance) Read(ctx context.Context, row *source.Row, t *history.Tally) error {
	start := history.Now()
	u, err := i.Cache.Get(ctx, row.Key)
	if err != nil {
		return err
	}
	if err := source.CheckUser(row.Key, u); err != nil {
		t.AddWrong(err)
		return nil
	}
	if current := row.Version(); u.Version > current {
		t.AddWrong(fmt.Errorf("%s: got version %d, the source has only come to %d", row.Key, u.Version, current))
		return nil
	}
	t.Add(&row.History, row.Key, history.Read{Instance: i.Index, Version: u.Version, Start: start})
	return nil
}

// Write changes a row at the source and tells the cache, by Set or by Invalidate. A change that the cache did not confirm
// is invalidated until it is, and then counts as acknowledged; repeats says how often that took.
func (i *Instance) Write(ctx context.Context, row *source.Row, set bool) (repeats int, err error) {
	row.Writing.Lock()
	defer row.Writing.Unlock()
	version := row.Change()
	if set {
		err = i.Cache.Set(ctx, row.Key, source.UserAt(row.Key, version))
		if err != nil {
			// It may still come to store its value, until its time is over. The order of an unconfirmed Set and a later write
			// is Redis' affair; here there must be one.
			time.Sleep(2 * i.redisTimeout)
		}
	} else {
		err = i.Cache.Invalidate(ctx, row.Key)
	}
	for ; err != nil && ctx.Err() == nil && repeats < maxRepeats; repeats++ {
		time.Sleep(repeatAfter)
		err = i.Cache.Invalidate(ctx, row.Key)
	}
	if err == nil {
		row.History.Acknowledge(version, i.Index)
	}
	return repeats, err
}

const (
	maxRepeats  = 50
	repeatAfter = 20 * time.Millisecond
)

// Cut closes the connection of the instance's subscription, and reports whether there was one.
func (i *Instance) Cut() bool {
	found := i.lines.subscriptions()
	for _, c := range found {
		_ = c.Close() // the bus closes it as well
	}
	return len(found) > 0
}

// Deafen keeps the connection of the instance's subscription open and throws away what arrives on it, and reports whether
// there was one.
func (i *Instance) Deafen() bool {
	found := i.lines.subscriptions()
	for _, c := range found {
		c.deaf.Store(true)
	}
	return len(found) > 0
}
