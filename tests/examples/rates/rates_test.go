package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/examples/internal/running"
	"github.com/tandemcache/tandem/tests/redisserver"
)

func TestMain(m *testing.M) { running.Main(m, main) }

const (
	limit      = 30
	window     = time.Second
	instances  = 3
	currencies = 20
)

func start(t *testing.T, a *api, redis *redisserver.Server, args ...string) *running.Process {
	t.Helper()
	return running.Start(t, append([]string{
		"-api", a.URL, "-redis", redis.Addr(), "-limit", strconv.Itoa(limit), "-window", window.String(),
		"-instances", strconv.Itoa(instances), "-ttl", "3s", "-patience", "20s",
	}, args...)...)
}

func fleet(t *testing.T, a *api, redis *redisserver.Server, args ...string) []*running.Process {
	t.Helper()
	ps := make([]*running.Process, instances)
	for i := range ps {
		ps[i] = start(t, a, redis, args...)
	}
	for _, p := range ps {
		p.AwaitReady(t)
	}
	return ps
}

func currency(i int) string { return fmt.Sprintf("C%02d", i) }

func get(t *testing.T, p *running.Process, currency string) (Rate, bool) {
	var r Rate
	ok := assert.Equal(t, http.StatusOK, p.Get(t, "/rates/"+currency, &r)) && assert.Equal(t, currency, r.Currency)
	return r, ok
}

// The API of these tests is as strict as it says.
func TestTheAPIRefusesCallsOverTheLimit(t *testing.T) {
	t.Parallel()
	a := newAPI(t, 2, time.Hour)
	for i := range 4 {
		resp, err := a.Client().Get(a.URL + "/rates/EUR")
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, i >= 2, resp.StatusCode == http.StatusTooManyRequests)
	}
	calls, refused := a.seen()
	require.Equal(t, []int{4, 2}, []int{calls, refused})
}

// One call serves all instances, also one that says that there is no such currency. On a slow machine it may be a few more.
func TestTheInstancesShareAnswers(t *testing.T) {
	t.Parallel()
	redis, a := redisserver.Run(t, redisserver.Options{}), newAPI(t, limit, window)
	a.change(1)
	ps := fleet(t, a, redis, "-ttl", "1m")
	for i := range currencies {
		for _, p := range ps {
			r, _ := get(t, p, currency(i))
			require.Equal(t, Rate{Currency: currency(i), Rate: 1}, r)
			require.Equal(t, http.StatusNotFound, p.Get(t, "/rates/none", nil))
		}
	}
	calls, refused := a.seen()
	t.Logf("%d calls for %d requests", calls, 2*currencies*instances)
	require.Less(t, calls, 2*currencies)
	require.Zero(t, refused)
}

func TestANewRateIsSeenAfterTheTTL(t *testing.T) {
	t.Parallel()
	redis, a := redisserver.Run(t, redisserver.Options{}), newAPI(t, limit, window)
	ps := fleet(t, a, redis)
	for _, p := range ps {
		get(t, p, "EUR")
	}
	a.change(2)
	for _, p := range ps {
		require.Eventually(t, func() bool {
			r, _ := get(t, p, "EUR")
			return r.Rate == 2
		}, running.Deadline, 10*time.Millisecond)
	}
}

// Redis goes and comes back, an instance crashes and is replaced, and all the time everybody asks for everything: no call is
// over the limit, and every request gets its answer.
func TestNeverOverTheLimit(t *testing.T) {
	t.Parallel()
	redis, a := redisserver.Run(t, redisserver.Options{}), newAPI(t, limit, window)
	door := httptest.NewServer(a) // for the victim alone: once it is closed, nothing arrives any more that was on its way
	defer door.Close()
	ps := []*running.Process{start(t, a, redis), start(t, a, redis), start(t, a, redis, "-api", door.URL)}
	for _, p := range ps {
		p.AwaitReady(t)
	}
	all := new(crowd)
	defer all.leave()
	victim := new(crowd)
	defer victim.leave()
	all.ask(t, ps[0])
	all.ask(t, ps[1])
	victim.ask(t, ps[2])
	// calls waits until so many more calls have been made, none of them over the limit.
	calls := func(more int) {
		t.Helper()
		before, _ := a.seen()
		require.Eventually(t, func() bool {
			now, refused := a.seen()
			return now >= before+more && assert.Zero(t, refused, "calls over the limit")
		}, running.Deadline, 10*time.Millisecond)
	}

	calls(currencies)
	require.NoError(t, redis.Kill())
	calls(3 * limit) // every instance asks for everything, several times
	victim.gone.Store(true)
	ps[2].Kill()
	door.Close()
	all.ask(t, start(t, a, redis))
	calls(2 * limit)
	require.NoError(t, redis.Restart())
	for _, p := range ps[:2] {
		p.AwaitReady(t)
	}
	calls(currencies)
	require.NoError(t, redis.Pause()) // connected, and silent
	calls(2 * limit)
	require.NoError(t, redis.Resume())
	calls(currencies)
	require.Positive(t, all.answers.Load())
}

// crowd sends requests until it leaves.
type crowd struct {
	gone    atomic.Bool // whoever it asks need not answer any more
	answers atomic.Int64
	asking  sync.WaitGroup
}

func (c *crowd) ask(t *testing.T, p *running.Process) {
	for range 8 {
		c.asking.Go(func() {
			for !c.gone.Load() {
				name := currency(rand.IntN(currencies))
				status, body, err := p.Do(http.MethodGet, "/rates/"+name, "")
				if c.gone.Load() {
					return
				}
				if !assert.Equal(t, http.StatusOK, status, "%s %v", body, err) || !assert.Contains(t, string(body), name) {
					return
				}
				c.answers.Add(1)
			}
		})
	}
}

func (c *crowd) leave() {
	c.gone.Store(true)
	c.asking.Wait()
}

// With the cache many requests share a call; without, each waits for its own. The limit holds in both.
func TestWithAndWithoutTheCache(t *testing.T) {
	redis := redisserver.Run(t, redisserver.Options{})
	subject := func(a *api, args ...string) running.Subject {
		ps := fleet(t, a, redis, args...)
		for i := range currencies {
			get(t, ps[0], currency(i))
		}
		return running.Subject{Processes: ps, Request: func(random *rand.Rand) bool {
			_, ok := get(t, ps[random.IntN(len(ps))], currency(random.IntN(currencies)))
			return ok
		}}
	}
	shared, direct := newAPI(t, limit, window), newAPI(t, limit, window)
	with, without := running.Compare(t, "calls of the API", subject(shared, "-ttl", "10s"), subject(direct, "-cache=false"))
	for _, a := range []*api{shared, direct} {
		_, refused := a.seen()
		require.Zero(t, refused, "calls over the limit")
	}
	require.Greater(t, without.SourcePerRequest(), 0.9)
	require.Less(t, with.SourcePerRequest(), 0.5)
	require.Greater(t, with.PerSecond(), without.PerSecond())
}
