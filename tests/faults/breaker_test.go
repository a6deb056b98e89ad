package faults

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered"
)

// Heartbeats go well and reads are not answered: the breaker opens, says so, lets a probe through now and then, and closes
// with the first that works.
func TestTheBreaker(t *testing.T) {
	srv, s := startRedis(t), newSource(0)
	p, log := newProxy(t, srv.Addr()), &logbook{}
	c := instance(t, p.addr(), s, log, staleness(time.Minute)) // no heartbeat fails, however busy the machine is
	require.NoError(t, c.Ready(soon(t)))
	require.Zero(t, get(t, c, "warm"))
	require.False(t, c.Health().BreakerOpen)

	p.set(rule{up: swallow}, data)
	reads, waited, slowest := 0, 0, time.Duration(0)
	read := func() {
		began := time.Now()
		require.Zero(t, get(t, c, fmt.Sprint("k", reads)))
		took := time.Since(began)
		slowest = max(slowest, took)
		if took > tiered.DefaultRedisTimeout/2 {
			waited++
		}
		reads++
	}
	for !c.Health().BreakerOpen {
		read()
		require.LessOrEqual(t, reads, 10, "the breaker stays closed")
	}
	untilOpen := reads
	require.True(t, c.Health().RemoteTrusted, "the heartbeats go well")
	require.True(t, c.Health().LocalTrusted, "L1 is not concerned")
	require.EqualValues(t, 1, c.Stats().BreakerOpened)
	eventually(t, "it is logged", func() bool { return log.count("does not answer reads") == 1 })

	waited, slowest = 0, 0
	for began := time.Now(); time.Since(began) < 1500*time.Millisecond; {
		read()
	}
	require.True(t, c.Health().BreakerOpen)
	require.Positive(t, waited, "there are probes")
	require.Less(t, waited, 8, "and nobody else waits")
	require.Less(t, slowest, tiered.DefaultRedisTimeout+slack)
	inRest := reads - untilOpen

	p.heal()
	began := time.Now()
	eventually(t, "closed again", func() bool { read(); return !c.Health().BreakerOpen })
	t.Logf("opened after %d reads; then %d reads in 1.5s, of which %d waited as probes; closed %v after Redis answered",
		untilOpen, inRest, waited, round(time.Since(began)))
	require.Less(t, time.Since(began), 2*time.Second+slack, "the longest rest")
	require.EqualValues(t, 1, c.Stats().BreakerOpened)
	began = time.Now()
	kept(t, c, client(t, srv.Addr()), "late")
	require.Less(t, time.Since(began), slack, "Redis is used again")
}

// Many reads at once meet the outage, which is over a moment later. How long Redis is left alone then is logged; it is at
// most the longest rest.
func TestTheBreakerAfterABurst(t *testing.T) {
	srv, s := startRedis(t), newSource(0)
	p := newProxy(t, srv.Addr())
	c := ready(t, p.addr(), s)
	require.Zero(t, get(t, c, "warm"))
	p.set(rule{up: swallow}, data)
	worst, _ := readAtOnce(t, c, "burst:")
	require.True(t, c.Health().BreakerOpen)
	dialled := p.accepted.Load()
	p.heal()
	healed := trusted(t, c)
	t.Logf("%d reads at once, worst %v; %d connections dialled by then, %d open in the end; closed %v after Redis answered",
		coldKeys, round(worst), dialled, p.open(), round(healed))
	pool := 10 * runtime.GOMAXPROCS(0) // go-redis' default
	require.LessOrEqual(t, p.open(), 2*pool+1, "two pools and the subscription")
	require.Less(t, worst, tiered.DefaultRedisTimeout+slack)
	require.Less(t, healed, 2*time.Second+slack)
}
