package faults

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered"
)

// C5 for a Redis whose every answer is late: within RedisTimeout it is used and its budget is one for the whole Get; past it
// the breaker opens, although the heartbeats, which have more time, go well.
func TestASlowRedis(t *testing.T) {
	for name, delay := range map[string]time.Duration{
		"within the timeout":    100 * time.Millisecond,
		"just over the timeout": tiered.DefaultRedisTimeout + 20*time.Millisecond,
	} {
		t.Run(name, func(t *testing.T) {
			srv, s := startRedis(t), newSource(loadTime)
			p := newProxy(t, srv.Addr())
			slow, other := ready(t, p.addr(), s), ready(t, srv.Addr(), s)
			require.Zero(t, get(t, other, "seen"))
			p.set(rule{delay: delay}, control, data, bus)

			worst, total := readAtOnce(t, slow, "k")
			require.Less(t, worst, loadTime+tiered.DefaultRedisTimeout+slack)
			var inTurn time.Duration
			for i := range 10 {
				began := time.Now()
				require.Zero(t, get(t, slow, fmt.Sprint("turn", i)))
				inTurn = max(inTurn, time.Since(began))
			}
			require.Less(t, inTurn, loadTime+tiered.DefaultRedisTimeout+slack)
			if delay > tiered.DefaultRedisTimeout {
				require.Positive(t, slow.Stats().BreakerOpened)
			}

			v := s.write("seen")
			began := time.Now()
			err := slow.Invalidate(context.Background(), "seen")
			took := time.Since(began)
			require.Less(t, took, tiered.DefaultRedisTimeout+slack)
			// Within the timeout it may be confirmed, unless it needs a new connection first.
			if err != nil || delay > tiered.DefaultRedisTimeout {
				require.ErrorIs(t, err, tiered.ErrPending)
			}
			require.Equal(t, v, get(t, slow, "seen"), "C2")

			p.heal()
			healed := trusted(t, slow)
			eventually(t, "the other instance has the new version", func() bool { return get(t, other, "seen") == v })
			t.Logf("answers %v late: %d cold reads at once %v, worst %v; in turn worst %v; Invalidate %v (%v); breaker opened %d times; trusted %v after",
				delay, coldKeys, round(total), round(worst), round(inTurn), round(took), err != nil, slow.Stats().BreakerOpened, round(healed))
		})
	}
}
