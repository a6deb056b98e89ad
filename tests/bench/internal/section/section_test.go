package section

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/bench/internal/peers"
	"github.com/tandemcache/tandem/tests/bench/internal/trace"
	"github.com/tandemcache/tandem/tests/bench/internal/workload"
	"github.com/tandemcache/tandem/tests/redisserver"
)

func TestCallsAreSummed(t *testing.T) {
	t.Parallel()
	got, err := sumCalls("# Commandstats\r\ncmdstat_get:calls=3,usec=9,usec_per_call=3.00\r\ncmdstat_info:calls=7,usec=1\r\n" +
		"cmdstat_client|setinfo:calls=2,usec=1\r\n")
	require.NoError(t, err)
	require.Equal(t, uint64(5), got)
	_, err = sumCalls("cmdstat_get:calls=x,usec=9")
	require.ErrorContains(t, err, "commandstats")
}

// forgetful keeps nothing, and is asked to be a cache.
type forgetful struct{ load peers.LoadFunc }

func (f forgetful) Read(key string) (int64, error) {
	u, err := f.load(key)
	return u.ID, err
}

func (forgetful) Close() error { return nil }

var forgetfulPeer = peers.Peer{Name: "forgetful", Open: func(s peers.Setting) (peers.Reader, error) {
	return forgetful{load: s.Load}, nil
}}

func TestAMissIsNotTakenForAHit(t *testing.T) {
	t.Parallel()
	srv := redisserver.Run(t, redisserver.Options{})
	cfg := Config{Addr: srv.Addr(), Rounds: 1, Time: time.Millisecond}
	_, err := LocalHits(t.Context(), cfg, []peers.Peer{forgetfulPeer}, []int{1})
	require.ErrorIs(t, err, peers.ErrCold)

	// A read that goes to Redis is no L1 hit, and one that does not is no L2 hit.
	cfg.Time = 200 * time.Millisecond
	_, err = LocalHits(t.Context(), cfg, []peers.Peer{peers.Plain()}, []int{64})
	require.ErrorContains(t, err, "that is no L1 hit")
	_, err = RemoteHits(t.Context(), cfg, []peers.Peer{peers.SyncMap()}, []int{1})
	require.ErrorContains(t, err, "that is no L2 hit")
}

func TestAnotherKeysValueIsFound(t *testing.T) {
	t.Parallel()
	wrong := peers.Peer{Name: "wrong", Open: func(peers.Setting) (peers.Reader, error) {
		return forgetful{load: func(string) (workload.User, error) { return workload.NewUser(7), nil }}, nil
	}}
	all, err := open("", []peers.Peer{wrong}, nil)
	require.NoError(t, err)
	require.NoError(t, all.warm([]string{"user:7"}))
	require.ErrorContains(t, all.warm([]string{"user:7", "user:8"}), `warming wrong: key "user:8": got the value of 7`)
}

func TestOpenClosesTheOthersWhenOneFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	_, err := open("", []peers.Peer{peers.RistrettoTTL(), {Name: "bad", Open: func(peers.Setting) (peers.Reader, error) {
		return nil, broken
	}}}, nil) // goleak would find Ristretto's goroutine
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "opening bad")
}

func TestStampedeReadsFromAllAtOnce(t *testing.T) {
	t.Parallel()
	var arrived atomic.Int64
	together := make(chan struct{})
	c := &contestant{name: "together", Reader: forgetful{load: func(string) (workload.User, error) {
		if arrived.Add(1) == herd {
			close(together)
		}
		<-together // nobody returns before the last one has come
		return workload.NewUser(1), nil
	}}}
	_, err := c.stampede("user:1")
	require.NoError(t, err)
	require.Equal(t, int64(herd), arrived.Load())
}

// change is a pair of processes of which B notices some time after A's call has returned.
type change struct {
	after   time.Duration
	noticed chan time.Time
}

func (*change) Prepare() error { return nil }

func (c *change) Change() error {
	time.AfterFunc(c.after, func() { c.noticed <- time.Now() })
	return nil
}

func (c *change) Noticed() <-chan time.Time { return c.noticed }

func (*change) Close() error { return nil }

func TestPropagationEndsWhenBNotices(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cell, err := propagate(t.Context(), &change{time.Second, make(chan time.Time, 1)}, 3*time.Second)
		require.NoError(t, err)
		require.Equal(t, []time.Duration{time.Second, time.Second, time.Second}, cell.Latencies)
		_, err = propagate(t.Context(), &change{time.Hour, make(chan time.Time, 1)}, 3*time.Second)
		require.ErrorContains(t, err, "no notice")
	})
}

// A trace whose ids fit is missed once an id, by everybody: then entries are what they are said to be.
func TestHitRatioOfWhatFits(t *testing.T) {
	t.Parallel()
	srv := redisserver.Run(t, redisserver.Options{})
	ids := make([]int64, 0, 300)
	for range 3 {
		for id := range int64(100) {
			ids = append(ids, id)
		}
	}
	fits := trace.Trace{Name: "fits", IDs: ids, Distinct: 100}
	for _, peer := range peers.Keepers() {
		ratio, err := replay(t.Context(), srv.Addr(), peer, fits, 100)
		require.NoError(t, err)
		require.InDelta(t, 2.0/3, ratio, 0.03, peer.Name)
		ratio, err = replay(t.Context(), srv.Addr(), peer, fits, 10)
		require.NoError(t, err)
		require.Less(t, ratio, 0.15, "%s has room for ten of a hundred", peer.Name)
	}
	result, err := hitRatio(t.Context(), Config{Addr: srv.Addr(), Rounds: 1}, []trace.Trace{fits})
	require.NoError(t, err)
	require.Len(t, result.Tables[0].Rows, len(shares))
}

func TestSectionsEndWithTheirContext(t *testing.T) {
	t.Parallel()
	srv := redisserver.Run(t, redisserver.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cfg := Config{Addr: srv.Addr(), Rounds: 1000, Time: time.Hour, Log: func(string, ...any) { cancel() }}
	for _, one := range All() {
		_, err := one.Run(ctx, cfg)
		require.ErrorIs(t, err, context.Canceled, one.Name)
	}
}

// What the section of clusters calls, on both kinds of Redis.
func TestBatchesAreReadAndDropped(t *testing.T) {
	t.Parallel()
	srv := redisserver.Run(t, redisserver.Options{})
	cluster := redisserver.RunCluster(t, redisserver.ClusterOptions{Replicas: -1, NodeTimeout: clusterTimeout})
	all, err := openSides(srv.Addr(), cluster.Addrs())
	require.NoError(t, err)
	keys := workload.Keys(2*together + 1)
	for _, c := range all {
		require.NoError(t, c.storeAll(keys), c.name)
	}
	require.NoError(t, all.warm(keys))
	for _, c := range all {
		b := c.Reader.(peers.Batcher)
		users, err := b.ReadMany(keys)
		require.NoError(t, err, c.name)
		require.Len(t, users, len(keys))
		require.Equal(t, workload.NewUser(7), users[keys[7]], c.name)

		require.NoError(t, b.Drop(keys[:1]))
		require.ErrorIs(t, readChunk(c, keys[:together]), peers.ErrCold, c.name)
		require.NoError(t, readChunk(c, keys[together:]))
		require.NoError(t, b.Drop(keys))
		_, err = c.Read(keys[2*together])
		require.ErrorIs(t, err, peers.ErrCold, c.name)
	}
	require.NoError(t, all.close())
}
