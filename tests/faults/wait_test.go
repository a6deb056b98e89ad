package faults

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/confirm"
	"github.com/tandemcache/tandem/tiered"
)

const waitBound = 500 * time.Millisecond

func acknowledging(o *tiered.Options[value]) { o.Acknowledge = true }

// registry has the instances that are waited for.
const registry = "tandem:{" + cacheName + "}:instances"

// settled waits until n instances have acknowledged what revoke, which says how long it took, has waited for.
//
// That a call does not take the bound is not enough: an instance that has let somebody wait in vain counts as gone, so that nobody
// waits for it, until its next heartbeat. Nor may a call take an eighth of the bound: whoever is missing then is marked as gone.
func settled(t testing.TB, admin *redis.Client, n int, revoke func() time.Duration) {
	t.Helper()
	eventually(t, "acknowledged", func() bool {
		words := admin.HVals(soon(t), registry).Val()
		gone := slices.ContainsFunc(words, func(word string) bool { return strings.HasPrefix(word, "-") })
		took := revoke()
		return len(words) == n && !gone && took < waitBound/8
	})
}

// revoke changes the source, waits for everybody, and takes note: from now on nobody may have the old version.
func (j *judge) revoke(t testing.TB, writer *cache, key string) time.Duration {
	t.Helper()
	v := j.source.write(key)
	took := confirm.Within(t, patience, func() error { return writer.InvalidateAndWait(context.Background(), key) })
	j.acknowledge(key, v, nil)
	return took
}

// waiting is a writer that revokes, and a reader behind a proxy, whom the judge allows nothing.
type waiting struct {
	*listening
	took      time.Duration // in all
	n, wholes int           // how many, and how many for the bound
}

func newWaiting(t *testing.T) *waiting {
	t.Helper()
	srv, s := startRedis(t), newSource(0)
	p := newProxy(t, srv.Addr())
	l := &listening{
		judge: newJudge(s, 0), proxy: p, admin: client(t, srv.Addr()),
		writer: ready(t, srv.Addr(), s, staleness(waitBound), acknowledging),
		reader: ready(t, p.addr(), s, staleness(waitBound), acknowledging),
	}
	l.stop = l.readers(2, l.reader, false, watched...)
	t.Cleanup(l.stop)
	w := &waiting{listening: l}
	w.settled(t)
	return w
}

// settled waits until the writer and the reader acknowledge.
func (w *waiting) settled(t *testing.T) {
	t.Helper()
	settled(t, w.admin, 2, func() time.Duration { return w.revoke(t, w.writer, watched[0]) })
}

func (w *waiting) revokeAll(t *testing.T) {
	t.Helper()
	for _, key := range watched {
		took := w.revoke(t, w.writer, key)
		w.took += took
		w.n++
		if took >= waitBound {
			w.wholes++
		}
	}
}

func (w *waiting) conclude(t *testing.T, what string) {
	t.Helper()
	w.finish(t, what)
	t.Logf("%d InvalidateAndWait, of which %d for the bound of %v, %v each", w.n, w.wholes, waitBound, round(w.took/time.Duration(w.n)))
}

// The strictest reading there is: once it has returned, not one read that starts later is old.
func TestInvalidateAndWaitUnderReads(t *testing.T) {
	w := newWaiting(t)
	for range 100 {
		w.revokeAll(t)
	}
	require.Less(t, w.wholes, w.n/4)
	w.conclude(t, "nothing is wrong")
}

func TestInvalidateAndWaitUnderKills(t *testing.T) {
	w := newWaiting(t)
	for range 10 {
		require.NoError(t, w.admin.ClientKillByFilter(soon(t), "TYPE", "pubsub").Err())
		w.revokeAll(t)
	}
	w.conclude(t, "subscriptions are killed")
}

// Redis gives a subscription up whose other end does not hear of it: PUBLISH counts it no more, and its instance serves.
func TestInvalidateAndWaitWithASubscriberKilledInSilence(t *testing.T) {
	w := newWaiting(t)
	for range 3 {
		w.proxy.set(rule{down: swallow, up: swallow}, bus)
		require.NoError(t, w.admin.ClientKillByFilter(soon(t), "TYPE", "pubsub").Err())
		eventually(t, "the writer is back, alone", func() bool {
			return w.writer.Health().LocalTrusted && w.admin.PubSubNumSub(soon(t), channel).Val()[channel] == 1
		})
		before := w.wholes
		w.revokeAll(t)
		require.Greater(t, w.wholes, before)
		w.proxy.heal()
		trusted(t, w.reader, w.writer)
	}
	w.settled(t)
	w.revokeAll(t)
	w.conclude(t, "killed in silence")
}

// Nothing passes between the reader and Redis any more.
func TestInvalidateAndWaitWithAnInstanceThatIsCutOff(t *testing.T) {
	w := newWaiting(t)
	w.proxy.set(rule{up: swallow, down: swallow}, control, data, bus)
	first := w.revoke(t, w.writer, watched[0])
	require.GreaterOrEqual(t, first, waitBound)
	second := w.revoke(t, w.writer, watched[0])
	w.revokeAll(t)
	w.revokeAll(t) // it is not waited for any more, and loads
	w.proxy.heal()
	w.conclude(t, "cut off: the first took "+round(first).String()+", the second "+round(second).String())
}

// An instance without the option hears, and does not acknowledge: as one of an older release.
func TestInvalidateAndWaitWithAnInstanceThatDoesNotAcknowledge(t *testing.T) {
	w := newWaiting(t)
	older := ready(t, w.proxy.addr(), w.source, staleness(waitBound))
	for range 3 {
		eventually(t, "it is waited for", func() bool { // unless it has lost its subscription, and serves nothing
			get(t, older, watched[0])
			return w.revoke(t, w.writer, watched[0]) >= waitBound
		})
		require.Equal(t, w.source.version(watched[0]), get(t, older, watched[0]))
	}
	require.NoError(t, older.Close())
	w.settled(t)
	w.revokeAll(t)
	w.conclude(t, "an older release")
}

func TestInvalidateAndWaitWithoutRedis(t *testing.T) {
	srv, s := startRedis(t), newSource(0)
	c := ready(t, srv.Addr(), s, staleness(time.Minute), acknowledging)
	require.NoError(t, srv.Kill())
	s.write("k")
	began := time.Now()
	require.ErrorIs(t, c.InvalidateAndWait(context.Background(), "k"), tiered.ErrPending)
	took := time.Since(began)
	require.Less(t, took, tiered.DefaultRedisTimeout+slack)
	require.EqualValues(t, 1, get(t, c, "k"))
	t.Logf("ErrPending after %v", round(took))
}
