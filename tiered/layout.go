package tiered

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/remote"
)

// ErrPartitions is why a cache in a Redis Cluster neither believes Redis nor changes it: instances of that cache have another
// number of partitions, so they would not hear each other. The text says which number is in Redis, and under which key.
var ErrPartitions = errors.New("tiered: another number of partitions is in Redis")

// Where a cache in a cluster is divided into another number of partitions, its keys are in other slots, and so are its
// invalidations. Two such instances would not notice each other. So the number is written down once for each cache, under a key whose
// name does not depend on it.
//
// A cache looks at it before it joins the bus, and then as often as it sends heartbeats: the key may be evicted, and an
// instance of another number write its own in the meantime. That one of the two is refused then, before MaxStaleness has passed,
// if the key's node can be asked. Who writes the number therefore waits that long before it joins, if anybody hears the
// cache's channels:
//
//  1. a cache with 64 partitions is running, and the key is gone;
//  2. an instance with 128 writes it, joins, and stores what it loads;
//  3. something is invalidated by one of 1, in other slots than 2 reads and hears, and confirmed there;
//  4. those of 1 look, and are refused. What 2 has stored is old, and nobody tells it.
//
// Where nobody is subscribed, which is how a cache starts for the first time, nobody waits.
//
// Who finds none invalidates everything in its own partitions first, and writes second. The entries there may be of the time
// before others had another number, and not have heard what those invalidated:
//
//  1. a cache with 64 partitions is stopped, and the key deleted, which is how one changes the number;
//  2. it runs with 128; something is invalidated, in other slots than those of 1;
//  3. it is changed back, and would find the values of 1.

const (
	// layoutFormat is the version of what the key holds: it, a space, and the number.
	layoutFormat = "1"
	// claimed ends the name of the key of who is making it. Nobody joins while it is there; claimPoll is the first pause between two
	// looks, and each is twice the one before.
	claimed   = ":claim"
	claimPoll = 50 * time.Millisecond
	// maxLayoutPause is the longest time between two looks at the number, that between two heartbeats, and layoutNotice the time
	// after which everybody who can look has done so.
	maxLayoutPause = 2 * time.Second
	layoutNotice   = maxLayoutPause + time.Second
)

var errClaimed = errors.New("the number of partitions is new, or yet to be written down")

// keepLayout is the cache's life on a cluster.
func (c *Cache[V]) keepLayout() {
	interval := min(c.opts.MaxStaleness/3, maxLayoutPause)
	retry, claim := firstRetry, claimPoll // before it has joined
	joined := false
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-c.ctx.Done():
			return
		}
		err := c.checkLayout(joined)
		wait := interval
		switch {
		case errors.Is(err, ErrPartitions):
			c.refuse(err)
			return
		case joined:
		case errors.Is(err, errClaimed):
			wait = claim/2 + rand.N(claim)
			claim = min(2*claim, interval)
		case err != nil:
			c.reportAway(err)
			wait = retry
			retry = min(2*retry, interval)
		default:
			if joined = true; c.enter() != nil {
				return // the bus is closed
			}
		}
		timer.Reset(wait)
	}
}

// refuse ends the cache's part in the cluster, for good.
func (c *Cache[V]) refuse(err error) {
	c.refused.Store(&err)
	c.exit()
	c.reportAway(err) // before Ready tells: a Get after it must not wait for what does not come
	if c.unready.Load() > 0 {
		close(c.ready) // no part gets ready any more
	}
	c.logger.Log(levelWarn, "partitions", "tandem: the cache is not used", "cache", c.name, "error", err)
}

// reportAway closes all gates.
func (c *Cache[V]) reportAway(err error) {
	for _, p := range c.parts {
		p.gate.report(pubsub.BeatReport{Err: err}, nil)
	}
}

// checkLayout returns ErrPartitions where another number is in Redis, errClaimed where one that has not joined must wait, and
// another error if it cannot be told.
func (c *Cache[V]) checkLayout(joined bool) error {
	ctx, cancel := context.WithTimeout(c.ctx, c.opts.RedisTimeout)
	defer cancel()
	there, err := c.bus.router.Get(ctx, c.keys.Layout()).Result()
	if errors.Is(err, redis.Nil) {
		there, err = c.makeLayout(ctx)
	} else if err == nil {
		c.toVoid = nil
	}
	if err == nil {
		err = c.judgeLayout(there)
	}
	if err == nil && !joined {
		err = c.awaitClaim(ctx)
	}
	if err != nil && !errors.Is(err, errClaimed) && !errors.Is(err, ErrPartitions) {
		c.bus.router.ReloadState(ctx)
		err = c.layoutError(err)
	}
	return err
}

// awaitClaim returns errClaimed while instances of another number may not know yet.
func (c *Cache[V]) awaitClaim(ctx context.Context) error {
	n, err := c.bus.router.Exists(ctx, c.keys.Layout()+claimed).Result()
	if err == nil && n > 0 {
		err = errClaimed
	}
	return err
}

// makeLayout writes the number down, and returns what is there then. A fleet that starts leaves it to one of its instances, for as
// long as that may take: each would else send an invalidation of everything to all. So who has the claim looks again: there may have
// been none because another one was done with it.
func (c *Cache[V]) makeLayout(ctx context.Context) (there string, err error) {
	mine, err := c.bus.router.SetNX(ctx, c.keys.Layout()+claimed, c.bus.id(), layoutNotice).Result()
	if err == nil && !mine {
		err = errClaimed
	}
	if err != nil {
		return "", err
	}
	if there, err = c.bus.router.Get(ctx, c.keys.Layout()).Result(); err == nil {
		return there, c.bus.router.Del(ctx, c.keys.Layout()+claimed).Err()
	}
	if errors.Is(err, redis.Nil) {
		err = c.voidAll(ctx)
	}
	if err == nil {
		err = c.bus.router.SetNX(ctx, c.keys.Layout(), layoutFormat+" "+strconv.Itoa(len(c.parts)), 0).Err()
	}
	if err == nil && c.isAlone(ctx) {
		err = c.bus.router.Del(ctx, c.keys.Layout()+claimed).Err()
	}
	if err != nil {
		return "", err
	}
	return c.bus.router.Get(ctx, c.keys.Layout()).Result()
}

// isAlone reports whether nobody hears the cache on any master, in partitions of whatever number.
func (c *Cache[V]) isAlone(ctx context.Context) bool {
	return c.bus.router.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
		heard, err := master.PubSubShardChannels(ctx, c.keys.Channels()).Result()
		if err == nil && len(heard) > 0 {
			err = errClaimed
		}
		return err
	}) == nil
}

func (c *Cache[V]) judgeLayout(there string) error {
	format, number, _ := strings.Cut(there, " ")
	if n, err := strconv.Atoi(number); err == nil && format == layoutFormat {
		if n == len(c.parts) {
			return nil
		}
		return fmt.Errorf("%w: cache %s has %d, and BusOptions.Partitions is %d here (to change it, stop all instances and delete %s)",
			ErrPartitions, c.name, n, len(c.parts), c.keys.Layout())
	}
	return fmt.Errorf("%w: cache %s has %.40q in %s, of a release that this one does not know",
		ErrPartitions, c.name, there, c.keys.Layout())
}

// voidAll starts a new epoch in every partition, or returns an error; then those that it has reached are done the next time, and not
// emptied at every try while a node is away.
func (c *Cache[V]) voidAll(ctx context.Context) error {
	if c.toVoid == nil {
		for _, p := range c.parts {
			c.toVoid = append(c.toVoid, p.number)
		}
	}
	store := remote.New(c.bus.router, c.storedAs())
	message := pubsub.Message{Op: pubsub.All, Sender: pubsub.Sender{ID: c.bus.id()}.String()}.Encode()
	errs := store.InvalidateAll(ctx, c.toVoid, message)
	left := c.toVoid[:0]
	for i, err := range errs {
		if err != nil {
			left = append(left, c.toVoid[i])
		}
	}
	c.toVoid = left
	return errors.Join(errs...)
}
