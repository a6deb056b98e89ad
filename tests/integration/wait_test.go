package integration

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/script"
	"github.com/tandemcache/tandem/pubsub"
	"github.com/tandemcache/tandem/tests/confirm"
	"github.com/tandemcache/tandem/tiered"
)

func acknowledge(o *tiered.Options[Value]) { o.Acknowledge = true }

// early waits until an InvalidateAndWait of c does not have to wait for the bound, wherever its keys are.
func early(t testing.TB, c *tiered.Cache[Value]) {
	t.Helper()
	keys := batchOf("early", 500)
	eventually(t, "acknowledged", func() bool {
		took := confirm.Within(t, patience, func() error { return c.InvalidateAndWait(soon(t), keys...) })
		return took < tiered.DefaultMaxStaleness/2
	})
}

// When it returns, the very next Get of every instance has the new value; and it takes a few round trips, not the bound.
func TestInvalidateAndWait(t *testing.T) {
	for _, n := range []int{1, 2, 3, 8} {
		t.Run(fmt.Sprint(n, " instances"), func(t *testing.T) {
			onBoth(t, func(t *testing.T, r *rig) {
				s := newSource(0)
				f := fleet(t, n, r, s, acknowledge)
				early(t, f[0])
				const rounds = 300
				var plain, waited []time.Duration
				late := 0
				for round := range rounds {
					key := fmt.Sprintf("revoked:%d", round%7)
					for _, c := range f {
						get(t, c, key)
					}
					began := time.Now()
					require.NoError(t, f[round%n].Invalidate(soon(t), "other"))
					plain = append(plain, time.Since(began))

					v := s.write(key)
					began = time.Now()
					require.NoError(t, f[round%n].InvalidateAndWait(soon(t), key))
					took := time.Since(began)
					for i, c := range f {
						require.Equal(t, v.Version, get(t, c, key), "instance %d", i)
					}
					if waited = append(waited, took); took > tiered.DefaultMaxStaleness {
						late++ // a heartbeat that was late on a busy machine
					}
				}
				t.Logf("%d instances, %d rounds: Invalidate p50 %v p99 %v; InvalidateAndWait p50 %v p99 %v, %.1f times; for the bound of %v: %d",
					n, rounds, quantile(plain, 0.5), quantile(plain, 0.99), quantile(waited, 0.5), quantile(waited, 0.99),
					float64(quantile(waited, 0.5))/float64(quantile(plain, 0.5)), tiered.DefaultMaxStaleness, late)
				require.Less(t, quantile(waited, 0.5), tiered.DefaultMaxStaleness/10)
			})
		})
	}
}

// Redis kills every subscription right before: some instances do not hear, and know or do not know it yet.
func TestInvalidateAndWaitWithoutSubscribers(t *testing.T) {
	onBoth(t, func(t *testing.T, r *rig) {
		s := newSource(0)
		const bound = 300 * time.Millisecond
		f := fleet(t, 3, r, s, acknowledge, func(o *tiered.Options[Value]) { o.MaxStaleness = bound })
		const rounds = 30
		whole := 0
		for round := range rounds {
			key := fmt.Sprintf("revoked:%d", round%7)
			for _, c := range f {
				get(t, c, key)
			}
			v := s.write(key)
			r.killSubscribers(t)
			if confirm.Within(t, patience, func() error { return f[0].InvalidateAndWait(soon(t), key) }) >= bound {
				whole++
			}
			for i, c := range f {
				require.Equal(t, v.Version, get(t, c, key), "instance %d in round %d", i, round)
			}
		}
		t.Logf("%d rounds, subscribers killed before each: %d waited for the bound of %v", rounds, whole, bound)
	})
}

// The registry is lost: whoever was in it may serve for a bound, and then all is as before.
func TestInvalidateAndWaitAfterALostRegistry(t *testing.T) {
	onBoth(t, func(t *testing.T, r *rig) {
		s := newSource(0)
		f := fleet(t, 3, r, s, acknowledge)
		early(t, f[0])
		for name, lose := range map[string]func(){
			"evicted": func() { require.NoError(t, r.client(t).Del(soon(t), r.instances("k")).Err()) },
			"flushed": func() {
				r.everywhere(t, func(ctx context.Context, admin *redis.Client) error { return admin.FlushAll(ctx).Err() })
			},
		} {
			for _, c := range f {
				get(t, c, "k")
			}
			began := time.Now()
			lose()
			v := s.write("k")
			require.NoError(t, f[0].InvalidateAndWait(soon(t), "k"), name)
			require.GreaterOrEqual(t, time.Since(began), tiered.DefaultMaxStaleness, name)
			for _, c := range f {
				require.Equal(t, v.Version, get(t, c, "k"), name)
			}
			early(t, f[0])
		}
	})
}

// Redis goes away with what it had, and another takes its place.
func TestInvalidateAndWaitAfterARestart(t *testing.T) {
	srv, s := startRedis(t), newSource(0)
	f := fleet(t, 2, srv, s, acknowledge)
	early(t, f[0])
	get(t, f[1], "k")
	require.NoError(t, srv.Kill())
	v := s.write("k")
	began := time.Now()
	require.ErrorIs(t, f[0].InvalidateAndWait(soon(t), "k"), tiered.ErrPending)
	t.Logf("without Redis: ErrPending after %v", time.Since(began))
	require.NoError(t, srv.Restart())
	eventually(t, "confirmed", func() bool { return f[0].InvalidateAndWait(soon(t), "k") == nil })
	for _, c := range f {
		require.Equal(t, v.Version, get(t, c, "k"))
	}
	early(t, f[0])
}

// The replica that is promoted does not know of an instance that registered late, and that one does not know yet that it was.
func TestInvalidateAndWaitAfterAFailover(t *testing.T) {
	const bound = 500 * time.Millisecond
	p, s := newPair(t), newSource(0)
	quick := func(o *tiered.Options[Value]) { o.MaxStaleness = bound }
	f := []*tiered.Cache[Value]{p.instance(s, quick, acknowledge), p.instance(s, quick, acknowledge)}
	p.settled()
	p.cut()
	f = append(f, p.instance(s, quick, acknowledge))
	for _, c := range f {
		get(t, c, "k")
	}
	failed := time.Now() // before a heartbeat can find it out, from which on the bound counts
	p.failOver()
	v := s.write("k")
	confirm.Within(t, patience, func() error { return f[0].InvalidateAndWait(soon(t), "k") })
	took := time.Since(failed)
	for i, c := range f {
		require.Equal(t, v.Version, get(t, c, "k"), "instance %d", i)
	}
	t.Logf("%v after the master was lost, with a bound of %v", took, bound)
	require.GreaterOrEqual(t, took, bound)
	early(t, f[0])
}

// 64 at once, from all instances.
func TestInvalidateAndWaitManyAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, r *rig) {
		s := newSource(0)
		f := fleet(t, 3, r, s, acknowledge)
		early(t, f[0])
		early(t, f[1])
		early(t, f[2])
		const each, callers = 20, 64
		var mu sync.Mutex
		var took []time.Duration
		var all sync.WaitGroup
		for n := range callers {
			all.Go(func() {
				key := fmt.Sprint("revoked:", n)
				for range each {
					v := s.write(key)
					began := time.Now()
					if err := f[n%3].InvalidateAndWait(soon(t), key); err != nil {
						t.Errorf("%s: %v", key, err)
					}
					d := time.Since(began)
					for i, c := range f {
						if got, err := c.Get(t.Context(), key); err != nil || got.Version != v.Version {
							t.Errorf("instance %d: %s is at %d and not %d: %v", i, key, got.Version, v.Version, err)
						}
					}
					mu.Lock()
					took = append(took, d)
					mu.Unlock()
				}
			})
		}
		all.Wait()
		whole := 0
		for _, d := range took {
			if d >= tiered.DefaultMaxStaleness {
				whole++
			}
		}
		t.Logf("%d callers on %d instances: p50 %v p99 %v; for the bound: %d of %d", callers, len(f), quantile(took, 0.5), quantile(took, 0.99), whole, len(took))
	})
}

// 2,000 processes have crashed without a word: the work is bounded, and once they are known to be gone it is nothing.
func TestInvalidateAndWaitAfterManyCrashes(t *testing.T) {
	onBoth(t, func(t *testing.T, r *rig) {
		s := newSource(0)
		f := fleet(t, 2, r, s, acknowledge)
		early(t, f[0])
		admin := r.client(t)
		pairs := make([]any, 0, 4000)
		for i := range 1990 {
			pairs = append(pairs, fmt.Sprintf("%016x", i), crashed)
		}
		require.NoError(t, admin.HSet(soon(t), r.instances("k"), pairs...).Err())
		var took []time.Duration
		for range 3 {
			began := time.Now()
			require.NoError(t, f[0].InvalidateAndWait(soon(t), "k"))
			took = append(took, time.Since(began).Round(time.Millisecond))
			marked(t, f[0], admin, r.instances("k"))
		}
		early(t, f[0])
		require.EqualValues(t, len(f), admin.HLen(soon(t), r.instances("k")).Val())
		longest := time.Duration(0)
		r.everywhere(t, func(ctx context.Context, admin *redis.Client) error {
			slow, err := admin.SlowLogGet(ctx, 1000).Result()
			for _, one := range slow {
				longest = max(longest, one.Duration)
			}
			return err
		})
		t.Logf("after %d crashes InvalidateAndWait took %v; the longest command in Redis %v", len(pairs)/2, took, longest)
	})
}

const crashed = "0123456789abcdef" // the word of an instance that is gone

// marked waits until nobody who has crashed counts as one who may answer: the marks are made in the background, and the
// marked are deleted by a later call. A call whose question Redis did not answer in time marks nobody, so c asks again.
func marked(t *testing.T, c *tiered.Cache[Value], admin redis.UniversalClient, registry string) {
	t.Helper()
	asked := time.Now()
	eventually(t, "the marks", func() bool {
		all, err := admin.HGetAll(soon(t), registry).Result()
		for _, state := range all {
			if state != crashed {
				continue
			}
			if time.Since(asked) > tiered.DefaultMaxStaleness {
				confirm.Within(t, patience, func() error { return c.InvalidateAndWait(soon(t), "k") })
				asked = time.Now()
			}
			return false
		}
		return err == nil
	})
}

// What a heartbeat that looks after a registration costs Redis, beside one that does not.
func TestTheCostOfARegistration(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it measures, and asserts little")
	}
	srv := startRedis(t)
	admin := client(t, srv)
	source, err := os.ReadFile("../../pubsub/scripts/steady.lua")
	require.NoError(t, err)
	sha := script.New(string(source))
	info := admin.InfoMap(soon(t), "replication").Val()
	server := "master_replid:" + info["Replication"]["master_replid"] + "\r"
	require.NoError(t, admin.Set(soon(t), "version", "v", 0).Err())
	require.NoError(t, admin.HSet(soon(t), "registry", "0123456789abcdef", "w").Err())
	for i := range 300 {
		require.NoError(t, admin.HSet(soon(t), "registry", fmt.Sprintf("%016x", i), crashed).Err())
	}
	message := pubsub.Message{Op: pubsub.Beat, Token: "0123456789abcdef0123456789abcdef"}.Encode()
	const rounds, calls = 20, 1000
	cost := func(keys []string, args ...any) float64 {
		require.NoError(t, admin.ConfigResetStat(soon(t)).Err())
		for range calls {
			require.NotEmpty(t, sha.Run(soon(t), admin, keys, args...).Val())
		}
		usec := admin.InfoMap(soon(t), "commandstats").Val()["Commandstats"]["cmdstat_evalsha"]
		var n, total int
		var per float64
		_, err := fmt.Sscanf(usec, "calls=%d,usec=%d,usec_per_call=%g", &n, &total, &per)
		require.NoError(t, err)
		return per
	}
	var without, with []time.Duration
	for range rounds {
		a := cost([]string{"probe", "version"}, "inbox", message, server, 2, "v")
		b := cost([]string{"probe", "version", "registry"}, "inbox", message, server, 2, "v", "0123456789abcdef", "w")
		without, with = append(without, time.Duration(a*1000)), append(with, time.Duration(b*1000))
	}
	a, b := quantile(without, 0.5), quantile(with, 0.5)
	t.Logf("a steady heartbeat of one topic: %v in Redis, registered %v, %s times (medians of %d rounds of %d)",
		a, b, strconv.FormatFloat(float64(b)/float64(a), 'f', 2, 64), rounds, calls)
}
