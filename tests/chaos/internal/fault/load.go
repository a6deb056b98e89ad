//go:build linux

package fault

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/tests/chaos/internal/arena"
	"github.com/tandemcache/tandem/tests/chaos/internal/design"
	"github.com/tandemcache/tandem/tests/chaos/internal/proxy"
	"github.com/tandemcache/tandem/tests/chaos/internal/worker"
)

// load are the faults of those who use Redis.
func load() []Fault {
	return []Fault{
		{Name: "invalidation-storm", Class: Load, Cluster: true, Start: func(_ context.Context, a *arena.Arena, _ *rand.Rand) (func() error, error) {
			a.Tell(worker.Write, 25*a.Options.WriteRate)
			return func() error { a.Tell(worker.Write, a.Options.WriteRate); return nil }, nil
		}},
		{Name: "slow-subscriber", Class: Network, Start: slowSubscriber},
		{Name: "hostile-writer", Class: Load, Start: hostileWriter},
	}
}

// slowSubscriber has some instances' subscriptions hear nothing while much is said, until the server gives them up at its
// limit for output that is not read. What they were sent before that arrives when it is mended.
func slowSubscriber(ctx context.Context, a *arena.Arena, rng *rand.Rand) (func() error, error) {
	const limit = "client-output-buffer-limit"
	if err := a.Admin.ConfigSet(ctx, limit, "pubsub 1mb 256kb 1").Err(); err != nil {
		return nil, err
	}
	slots := some(a, rng)
	a.Notef("slow-subscriber: instances in slots %v", indices(slots))
	for _, s := range slots {
		s.Set(proxy.Bus, proxy.Down, proxy.Rule{Hold: true})
	}
	channel, noise := design.NamesOf(a.Options.Design).Channel, design.Noise(a.Options.Design, 100<<10)
	stop := background(ctx, func(ctx context.Context) error {
		for ctx.Err() == nil {
			if err := a.Admin.Publish(ctx, channel, noise).Err(); err != nil && ctx.Err() == nil {
				time.Sleep(50 * time.Millisecond) // another fault may have taken the server away
			}
			time.Sleep(5 * time.Millisecond)
		}
		return nil
	})
	return func() error {
		err := stop()
		for _, s := range slots {
			err = errors.Join(err, s.Pass())
		}
		_ = a.Admin.ConfigSet(ctx, limit, "pubsub 32mb 8mb 60").Err() // a server that is away comes back with its own
		return err
	}, nil
}

// hostileWriter writes garbage under the keys and channels of the cache, as fast as it can.
func hostileWriter(ctx context.Context, a *arena.Arena, rng *rand.Rand) (func() error, error) {
	names := design.NamesOf(a.Options.Design)
	rdb := redis.NewClient(&redis.Options{Addr: a.Server.Addr(), MaxRetries: -1, DialerRetries: 1})
	stop := background(ctx, func(ctx context.Context) error {
		for ctx.Err() == nil {
			p := rdb.Pipeline()
			for range 16 {
				harm(ctx, p, names, a, rng)
			}
			if _, err := p.Exec(ctx); err != nil {
				time.Sleep(time.Millisecond) // wrong types are answered with errors; a server that is away, too
			}
		}
		return nil
	})
	return func() error { return errors.Join(stop(), rdb.Close()) }, nil
}

func harm(ctx context.Context, p redis.Pipeliner, names design.Names, a *arena.Arena, rng *rand.Rand) {
	key := names.Entry(rng.IntN(a.Options.Keys))
	// Copies go one way: through a third key, an old entry could come back under its own, and no cache could tell.
	half := a.Options.Keys / 2
	from, to := names.Entry(rng.IntN(half)), names.Entry(half+rng.IntN(half))
	junk := make([]byte, rng.IntN(200))
	_, _ = crand.Read(junk)
	switch rng.IntN(10) {
	case 0:
		p.Del(ctx, key)
		p.RPush(ctx, key, junk)
	case 1:
		p.Set(ctx, key, junk, 0)
	case 2: // every field of an entry, whatever they are called: truncated, or with something behind
		p.Eval(ctx, `if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return end
for _, f in ipairs(redis.call('HKEYS', KEYS[1])) do
  local v = redis.call('HGET', KEYS[1], f)
  redis.call('HSET', KEYS[1], f, string.sub(v, 1, math.floor(#v * tonumber(ARGV[1]))) .. ARGV[2])
end`, []string{key}, rng.Float64(), junk)
	case 3: // a whole entry, of another key
		p.Copy(ctx, from, to, 0, true)
	case 4:
		p.PExpire(ctx, key, time.Duration(rng.IntN(100)+1)*time.Millisecond)
	case 5:
		p.Publish(ctx, names.Channel, junk)
	case 6:
		p.Publish(ctx, names.Channel, fmt.Sprintf("tandem/%d inv 99999999:%s", rng.IntN(3), junk))
	case 7:
		if names.Version != "" && rng.IntN(50) == 0 {
			p.Set(ctx, names.Version, junk, 0)
		}
	case 8:
		p.HSet(ctx, key, "v", junk, "l", junk, string(junk), junk)
	case 9: // a bit of what is there
		p.Eval(ctx, `if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return end
for _, f in ipairs(redis.call('HKEYS', KEYS[1])) do
  local v = redis.call('HGET', KEYS[1], f)
  local i = 1 + math.floor(#v * tonumber(ARGV[1]))
  redis.call('HSET', KEYS[1], f, string.sub(v, 1, i - 1) .. string.char((string.byte(v, i) or 0) % 255 + 1) .. string.sub(v, i + 1))
end`, []string{key}, rng.Float64())
	}
}
