package peers

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/dgraph-io/ristretto/v2"
	"github.com/maypok86/otter/v2"
	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/tiered"
)

// Keeper is a first tier of which only matters what it keeps.
type Keeper interface {
	// Touch looks for an id, and puts it in if it is not there. It reports whether it was.
	Touch(id int64) (hit bool, err error)
	Close() error
}

// KeeperPeer is a competitor in keeping the right things. Open is told how many entries fit.
type KeeperPeer struct {
	Name  string
	Asked string
	Open  func(addr string, entries int) (Keeper, error)
}

// KeeperBaseline is what the others are compared with.
const KeeperBaseline = "Ristretto"

// Keepers returns those whose hit ratios are compared.
func Keepers() []KeeperPeer {
	return []KeeperPeer{
		{
			Name:  KeeperBaseline,
			Asked: "10 counters an entry, every entry of cost 1, Wait after each Set, as otherwise sets of a tight loop are lost",
			Open:  openRistrettoKeeper,
		},
		{
			Name:  "otter",
			Asked: "MaximumSize, with maintenance on the caller's goroutine, so that it does not lag behind a tight loop",
			Open:  openOtterKeeper,
		},
		{
			Name:  TandemName,
			Asked: "Get, misses from Redis and the source; LocalBytes and Cost such that this many entries fill the budget, which is not below its minimum of 1 MiB, so that the admission counters of small ones are more than 10 an entry",
			Open:  openTandemKeeper,
		},
	}
}

// keeperKey is the key of an id, for everybody: as it is text, it is hashed. Ids as they are would be a present to Ristretto,
// which counts accesses by the low bits of a number: ids that are dense would share no counters. All have the same length, for
// entries of one size.
func keeperKey(id int64) string { return fmt.Sprintf("%020d", id) }

type ristrettoKeeper struct {
	cache *ristretto.Cache[string, int64]
}

func openRistrettoKeeper(_ string, entries int) (Keeper, error) {
	c, err := ristretto.NewCache(&ristretto.Config[string, int64]{
		NumCounters: 10 * int64(entries), MaxCost: int64(entries), BufferItems: 64, IgnoreInternalCost: true,
	})
	if err != nil {
		return nil, err
	}
	return ristrettoKeeper{cache: c}, nil
}

func (k ristrettoKeeper) Touch(id int64) (bool, error) {
	key := keeperKey(id)
	if _, ok := k.cache.Get(key); ok {
		return true, nil
	}
	k.cache.Set(key, id, 1)
	k.cache.Wait()
	return false, nil
}

func (k ristrettoKeeper) Close() error {
	k.cache.Close()
	return nil
}

type otterKeeper struct{ cache *otter.Cache[string, int64] }

func openOtterKeeper(_ string, entries int) (Keeper, error) {
	c, err := otter.New(&otter.Options[string, int64]{MaximumSize: entries, Executor: func(fn func()) { fn() }})
	if err != nil {
		return nil, err
	}
	return otterKeeper{cache: c}, nil
}

func (k otterKeeper) Touch(id int64) (bool, error) {
	key := keeperKey(id)
	if _, ok := k.cache.GetIfPresent(key); ok {
		return true, nil
	}
	k.cache.Set(key, id)
	return false, nil
}

func (k otterKeeper) Close() error {
	k.cache.StopAllGoroutines()
	return nil
}

type tandemKeeper struct {
	rdb   *redis.Client
	cache *tiered.Cache[int64]
	last  uint64 // local misses so far
}

// budgetPerEntry is what tandem plans its fixed parts for.
const (
	budgetPerEntry = 1 << 10
	minBudget      = 1 << 20
)

// openTandemKeeper finds out, with one entry in a first cache, what an entry costs that has nothing but its key, and gives
// each entry of a second one so much more that the given number of them fills the budget.
func openTandemKeeper(addr string, entries int) (Keeper, error) {
	budget := max(int64(entries)*budgetPerEntry, minBudget)
	probe, err := openBudget(addr, budget, 0)
	if err != nil {
		return nil, err
	}
	empty := probe.cache.Stats().LocalBytes
	_, err = probe.Touch(0)
	own := probe.cache.Stats().LocalBytes - empty
	if err := errors.Join(err, probe.Close()); err != nil {
		return nil, err
	}
	cost := (budget-empty)/int64(entries) - own
	if own <= 0 || cost < 0 {
		return nil, fmt.Errorf("tandem: %d entries of %d bytes do not make a budget of %d, of which %d are fixed", entries, own, budget, empty)
	}
	return openBudget(addr, budget, cost)
}

func openBudget(addr string, bytes, cost int64) (*tandemKeeper, error) {
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	c, err := tiered.New(rdb, "ratio-"+strconv.FormatInt(instances.Add(1), 10), tiered.Options[int64]{
		Load:       func(_ context.Context, key string) (int64, error) { return strconv.ParseInt(key, 10, 64) },
		LocalBytes: bytes, Cost: func(int64) int64 { return cost },
		TTL: ttl, LocalTTL: ttl, MaxStaleness: time.Minute, RedisTimeout: patience, Logger: quiet,
	})
	if err != nil {
		return nil, errors.Join(err, rdb.Close())
	}
	k := &tandemKeeper{rdb: rdb, cache: c}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.Ready(ctx); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

func (k *tandemKeeper) Touch(id int64) (bool, error) {
	got, err := k.cache.Get(context.Background(), keeperKey(id))
	if err == nil && got != id {
		err = fmt.Errorf("tandem: got %d for %d", got, id)
	}
	misses := k.cache.Stats().LocalMisses
	hit := misses == k.last
	k.last = misses
	return hit, err
}

func (k *tandemKeeper) Close() error { return errors.Join(k.cache.Close(), k.rdb.Close()) }
