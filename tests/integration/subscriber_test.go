package integration

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// C3: the subscription is killed right before an invalidation, so that its message is lost. No read that starts later than
// MaxStaleness after it may be old; the usual lag is measured beside it, and a bare PUBLISH to Receive beside that.
func TestASubscriberKilledBeforeAnInvalidation(t *testing.T) {
	onBoth(t, func(t *testing.T, r *rig) {
		s := newSource(0)
		f := fleet(t, 2, r, s)
		writer, reader := f[0], f[1]
		bound := 2 * time.Second
		const rounds = 200

		var late, judged atomic.Int64
		var longest time.Duration
		lag := make([]time.Duration, 0, rounds)
		for round := range rounds {
			key := fmt.Sprintf("killed:%d", round%7)
			get(t, reader, key)
			r.killSubscribers(t)
			v := s.write(key)
			require.NoError(t, writer.Invalidate(soon(t), key))
			acked := time.Now()
			require.Equal(t, v.Version, get(t, writer, key), "C2")
			for {
				began := time.Since(acked)
				got := get(t, reader, key)
				judged.Add(1)
				if got == v.Version {
					longest = max(longest, began)
					lag = append(lag, began)
					break
				}
				if began > bound {
					late.Add(1)
					break
				}
			}
		}
		t.Logf("%d rounds, %d reads judged, subscriber killed before each: stale later than %v: %d; until the new value p50 %v p99 %v max %v; sessions %d",
			rounds, judged.Load(), bound, late.Load(), quantile(lag, 0.5), quantile(lag, 0.99), longest, reader.Stats().Sessions)
		require.Zero(t, late.Load())
		require.Greater(t, reader.Stats().Sessions, uint64(rounds/4), "they were killed")
	})
}

// The usual lag, against the least there can be. Interleaved, so that both see the same machine.
func TestTheUsualLag(t *testing.T) {
	srv, s := startRedis(t), newSource(0)
	f := fleet(t, 2, srv, s, calm)
	writer, reader := f[0], f[1]
	bare := newBareHop(t, srv.Addr())
	const rounds = 500
	var lag, hop []time.Duration
	for range rounds {
		const key = "lagged"
		get(t, reader, key)
		s.write(key)
		before := reader.Stats()
		began := time.Now()
		require.NoError(t, writer.Invalidate(soon(t), key))
		now := reader.Stats()
		for ; now.Received == before.Received && now.Sessions == before.Sessions; now = reader.Stats() {
			if time.Since(began) > patience {
				require.FailNow(t, "the message has not come")
			}
			runtime.Gosched() // the receiver may need this core
		}
		if now.Sessions != before.Sessions {
			continue // the message may be lost with the session before
		}
		lag = append(lag, time.Since(began))
		hop = append(hop, bare.measure(t))
	}
	require.NotEmpty(t, lag)
	t.Logf("%d rounds: Invalidate to evicted on the other instance p50 %v p99 %v; bare PUBLISH to Receive p50 %v p99 %v; ratio %.2f and %.2f",
		len(lag), quantile(lag, 0.5), quantile(lag, 0.99), quantile(hop, 0.5), quantile(hop, 0.99),
		float64(quantile(lag, 0.5))/float64(quantile(hop, 0.5)), float64(quantile(lag, 0.99))/float64(quantile(hop, 0.99)))
}

// bareHop is a publisher and a subscriber with nothing around them, which polls as the measurement above does.
type bareHop struct {
	pub      *redis.Client
	received atomic.Int64
}

func newBareHop(t *testing.T, addr string) *bareHop {
	t.Helper()
	b := &bareHop{pub: redis.NewClient(&redis.Options{Addr: addr})}
	ps := b.pub.Subscribe(context.Background(), "bare")
	_, err := ps.Receive(context.Background())
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := ps.Receive(context.Background()); err != nil {
				return
			}
			b.received.Add(1)
		}
	}()
	t.Cleanup(func() {
		_ = ps.Close()
		<-done
		_ = b.pub.Close()
	})
	return b
}

func (b *bareHop) measure(t *testing.T) time.Duration {
	t.Helper()
	before := b.received.Load()
	began := time.Now()
	require.NoError(t, b.pub.Publish(context.Background(), "bare", "tandem/1 inv 16:0123456789abcdef,6:lagged,").Err())
	for b.received.Load() == before {
		if time.Since(began) > patience {
			require.FailNow(t, "the message has not come")
		}
		runtime.Gosched()
	}
	return time.Since(began)
}

// C3 and C6 for a Redis that restarts, empty, in the middle of everything.
func TestARestart(t *testing.T) {
	srv, s := startRedis(t), newSource(0)
	f := fleet(t, 3, srv, s)
	for round := range 5 {
		key := fmt.Sprintf("restarted:%d", round)
		for _, c := range f {
			require.Zero(t, get(t, c, key))
		}
		require.NoError(t, srv.Kill())
		v := s.write(key)
		err := f[0].Invalidate(soon(t), key)
		require.ErrorContains(t, err, "not confirmed")
		require.Equal(t, v.Version, get(t, f[0], key), "C2 without Redis")
		require.NoError(t, srv.Restart())
		for _, c := range f {
			eventually(t, "the new version", func() bool { return get(t, c, key) == v.Version })
			eventually(t, "trusted again", func() bool {
				h := c.Health()
				return h.LocalTrusted && h.RemoteTrusted && h.PendingKeys == 0
			})
			require.Equal(t, v.Version, get(t, c, key))
		}
	}
}

// The invalidation from a shell that the package pubsub documents.
func TestInvalidationFromAShell(t *testing.T) {
	onBoth(t, func(t *testing.T, r *rig) {
		s := newSource(0)
		c := instance(t, r, s)
		require.Zero(t, get(t, c, "42"))
		v := s.write("42")
		script := `redis.call('UNLINK', KEYS[1]) return redis.call('` + r.publish + `', ARGV[1], ARGV[2])`
		n, err := r.client(t).Eval(soon(t), script, []string{r.keys.Entry("42")}, r.channel("42"), "tandem/1 inv 5:shell,2:42,").Int()
		require.NoError(t, err)
		require.Equal(t, 1, n, "the number of instances that were told")
		eventually(t, "evicted", func() bool { return get(t, c, "42") == v.Version })
	})
}

// Redis' own count of what a read costs.
func TestCommandsPerRead(t *testing.T) {
	srv, s := startRedis(t), newSource(0)
	f := fleet(t, 2, srv, s, calm)
	admin := client(t, srv)
	get(t, f[0], "warm") // every script is known
	require.NoError(t, f[0].Invalidate(soon(t), "warm"))
	const n = 200
	count := func(do func()) string {
		require.NoError(t, admin.ConfigResetStat(soon(t)).Err())
		before := f[0].Stats().Commands + f[1].Stats().Commands
		do()
		t.Logf("commands counted by the caches: %.2f", float64(f[0].Stats().Commands+f[1].Stats().Commands-before)/n)
		return admin.Info(soon(t), "commandstats").Val()
	}
	miss := count(func() {
		for i := range n {
			get(t, f[0], fmt.Sprint("read:", i))
		}
	})
	hit := count(func() {
		for i := range n {
			get(t, f[1], fmt.Sprint("read:", i))
		}
	})
	// A hash is read by HGET from the client once a read, and by nothing else; the scripts' inner commands are counted as well.
	require.Contains(t, hit, fmt.Sprintf("cmdstat_hget:calls=%d,", n))
	require.EqualValues(t, n, f[1].Stats().RemoteHits)
	scripts := 0
	for line := range strings.SplitSeq(miss, "\r\n") {
		if rest, ok := strings.CutPrefix(line, "cmdstat_evalsha:calls="); ok {
			_, _ = fmt.Sscanf(rest, "%d", &scripts)
		}
	}
	t.Logf("a miss: 1 HGET and %.2f scripts (heartbeats among them)", float64(scripts)/n)
	require.LessOrEqual(t, float64(scripts)/n, 2.2)
}
