package tiered

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/local"
	"github.com/tandemcache/tandem/remote"
)

func TestDueIn(t *testing.T) {
	t.Parallel()
	c := &Cache[int]{opts: Options[int]{RefreshAfter: time.Minute, Jitter: 0.1}}
	mean := func(a ages) time.Duration {
		var sum time.Duration
		const n = 10_000
		for range n {
			in := c.dueIn(a)
			require.LessOrEqual(t, in, time.Minute-a.age)
			require.GreaterOrEqual(t, in, 27*time.Second-a.age)
			require.False(t, c.young(ages{age: a.age + in, ttl: a.ttl, load: a.load}), "what is due is not young")
			sum += in
		}
		return sum / n
	}
	at := ages{ttl: time.Hour}
	require.InDelta(t, 57*time.Second, mean(at), float64(time.Second), "jitter alone")
	at.load = 3 * time.Second
	require.InDelta(t, 54*time.Second, mean(at), float64(time.Second), "less one load on average")
	at.age = 20 * time.Second
	require.InDelta(t, 34*time.Second, mean(at), float64(time.Second))
	at = ages{ttl: time.Hour, load: time.Hour}
	require.InDelta(t, 28*time.Second, mean(at), float64(2*time.Second), "a load that takes longer than the age")
	require.LessOrEqual(t, c.dueIn(ages{ttl: 10 * time.Second, age: 10 * time.Second}), time.Duration(0), "a shorter life")
	require.True(t, c.young(ages{ttl: time.Hour, age: 26 * time.Second}))
	require.False(t, c.young(ages{ttl: time.Hour, age: 28 * time.Second}))
}

func TestAgesOfHostileTimes(t *testing.T) {
	t.Parallel()
	for _, e := range []remote.Envelope{
		{Created: 0, Expires: 1<<63 - 1}, {Created: 1<<48 - 1, Expires: -1 << 63}, {Created: 5, Expires: 1},
	} {
		a := agesOf(e, 1_700_000_000_000)
		require.GreaterOrEqual(t, a.age, time.Duration(0))
		require.GreaterOrEqual(t, a.ttl, time.Duration(0))
		require.LessOrEqual(t, max(a.age, a.ttl), maxDuration)
	}
}

func TestRefreshesRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r refreshes
		begin := func(key string) bool {
			mine, full := r.begin(key)
			require.Zero(t, full)
			return len(mine) == 1
		}
		end := func(key string, how resting) { r.end(key, how); r.free() }
		pauses := make([]time.Duration, 0, 10)
		for range 10 {
			require.True(t, begin("k"))
			require.False(t, begin("k"), "under way")
			end("k", restLonger)
			began := time.Now()
			for !begin("k") {
				time.Sleep(time.Millisecond)
			}
			pauses = append(pauses, time.Since(began))
			end("k", restAWhile)
			time.Sleep(longestRest)
		}
		require.InDelta(t, 0.75*float64(local.RefreshPause), pauses[0], 0.26*float64(local.RefreshPause))
		require.Greater(t, pauses[3], 3*local.RefreshPause)
		require.LessOrEqual(t, pauses[9], longestRest)
		require.GreaterOrEqual(t, pauses[9], longestRest/2)
		require.True(t, begin("k"))
		end("k", restNot)
		require.Empty(t, r.rests, "a success forgets")

		for i := range 3 * maxRests {
			require.True(t, begin(keyName(i)))
			end(keyName(i), restLonger)
			require.LessOrEqual(t, len(r.rests), maxRests)
		}
	})
}
