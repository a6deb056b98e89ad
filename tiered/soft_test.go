package tiered

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/require"
)

func softly(o *Options[int]) { lingering(o); o.SoftTimeout = 100 * time.Millisecond }

func TestTimeSoftTimeout(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Options[int]){
		"leased": func(*Options[int]) {}, "without leases": func(o *Options[int]) { o.NoLease = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, w *world) {
				c := w.instance(t, softly, change)
				requireFresh(t, c, 0)
				w.source.write("k")
				time.Sleep(pastTTL)
				read, letGo := w.source.holdNext()
				began := time.Now()
				requireStale(t, c, 0)
				require.Equal(t, 100*time.Millisecond, time.Since(began))
				wait(t, "the load", read)
				requireStale(t, c, 0) // shares the load, and waits no longer
				require.Equal(t, 100*time.Millisecond, time.Since(began))

				refreshed := make(chan result, 1)
				go func() {
					v, err := c.Refresh(t.Context(), "k")
					refreshed <- result{v, err}
				}()
				require.Equal(t, result{val: 1}, wait(t, "a Refresh, which wants the source's", refreshed))
				letGo()
				synctest.Wait()
				requireFresh(t, c, 1)
				require.EqualValues(t, 2, c.Stats().Stale)
				require.EqualValues(t, 3, w.source.loads.Load())
			})
		})
	}
}

func TestTimeSoftTimeoutStoresTheLoad(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		f := []*Cache[int]{w.instance(t, softly), w.instance(t, softly)}
		get(t, f[0], "k")
		w.source.write("k")
		time.Sleep(pastTTL)
		read, letGo := w.source.holdNext()
		requireStale(t, f[0], 0)
		wait(t, "the load", read)
		began := time.Now()
		requireStale(t, f[1], 0) // waits for the other's lease
		require.Equal(t, 100*time.Millisecond, time.Since(began))
		letGo()
		synctest.Wait()
		requireFresh(t, f[0], 1)
		requireFresh(t, f[1], 1)
		require.EqualValues(t, 2, w.source.loads.Load())
	})
}

func TestTimeSoftTimeoutWithoutAStandIn(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world) {
		c := w.instance(t, softly, func(o *Options[int]) { o.Load = slowly(o.Load, time.Second) })
		began := time.Now()
		requireFresh(t, c, 0)
		require.Equal(t, time.Second, time.Since(began))
	})
}

func TestTimeSoftTimeoutCountsFromTheGet(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		localTTL time.Duration
		want     time.Duration
	}{
		"L1": {time.Minute, 100 * time.Millisecond}, "L2": {Off, 200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, w *world) {
				c := w.instance(t, softly, func(o *Options[int]) {
					o.LocalTTL, o.Load = test.localTTL, slowly(o.Load, time.Second)
				})
				settle()
				get(t, c, "k")
				time.Sleep(pastTTL)
				var asked atomic.Bool
				w.redis.Server().SetPreHook(func(_ *server.Peer, cmd string, _ ...string) bool {
					// The read, and not what scripts call, which hold miniredis' lock.
					if cmd == "HGET" && asked.CompareAndSwap(false, true) {
						time.Sleep(200 * time.Millisecond)
					}
					return false
				})
				began := time.Now()
				requireStale(t, c, 0)
				require.InDelta(t, test.want, time.Since(began), float64(5*time.Millisecond))
				w.redis.Server().SetPreHook(nil)
				soonAfter(2 * time.Second)
			})
		})
	}
}

func TestTimeSoftTimeoutNeverServesAnInvalidatedValue(t *testing.T) {
	t.Parallel()
	for name, write := range writes {
		for writer := range 2 {
			for when, d := range map[string]time.Duration{"before": 50 * time.Millisecond, "after": 150 * time.Millisecond} {
				t.Run(fmt.Sprintf("%s by instance %d %s", name, writer, when), func(t *testing.T) {
					t.Parallel()
					bubble(t, func(t *testing.T, w *world) {
						f := []*Cache[int]{w.instance(t, softly), w.instance(t, softly)}
						settle()
						get(t, f[0], "k")
						time.Sleep(pastTTL)
						read, letGo := w.source.holdNext()
						first := getAsync(t.Context(), f[0], "k")
						wait(t, "the load", read)
						time.Sleep(d)
						require.NoError(t, write(f[writer], w.source))
						synctest.Wait()
						require.Equal(t, 1, get(t, f[0], "k"), "who comes after")
						soonAfter(time.Second)
						stale := f[0].Stats().Stale
						letGo()
						require.Equal(t, result{val: 0}, wait(t, "the first", first))
						if when == "before" {
							require.Zero(t, stale)
						} else {
							require.EqualValues(t, 1, stale)
						}
					})
				})
			}
		}
	}
}

func TestAnOfferIsJudgedByWhoTakesIt(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	c := instance(t, r, s)
	f := &flight[int]{key: "k", soft: standIn[int]{val: 7, ticket: ticketOf(c, "k"), ok: true}}
	v, ok := c.softly(f, nil)
	require.True(t, ok)
	require.Equal(t, 7, v)
	c.evict("k")
	_, ok = c.softly(f, nil)
	require.False(t, ok)

	get(t, c, "k")
	f.soft = standIn[int]{val: 7, entry: c.local.Get("k"), ok: true}
	_, ok = c.softly(f, nil)
	require.True(t, ok)
	c.evict("k")
	_, ok = c.softly(f, nil)
	require.False(t, ok, "of L1")
}
