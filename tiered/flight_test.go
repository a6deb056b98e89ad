package tiered

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/remote"
)

// waiting is a cache without Redis, so that a ticket's own age counts, with a flight that has started and does nothing.
func waiting(t *testing.T) (*Cache[int], *flight[int]) {
	t.Helper()
	r := newRedis(t)
	r.Close()
	c := lazyInstance(t, r, newSource())
	n := &flight[int]{key: "k", done: make(chan struct{})}
	c.flights.run = func(*flight[int]) {}
	_, mine := c.flights.join(n)
	require.True(t, mine)
	return c, n
}

// joins reports whether a Get for k now would share n.
func joins(c *Cache[int], n *flight[int]) bool {
	s := c.flights.shard("k")
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lanes["k"].newest == n && c.flights.live(n.ticket)
}

func TestAFlightIsAsOldAsTheHeartbeatThatItBelieves(t *testing.T) {
	t.Parallel()
	c, n := waiting(t)
	require.True(t, joins(c, n))
	c.flights.believe(n, opening{})
	require.True(t, joins(c, n), "a gate that is closed says nothing")
	c.flights.believe(n, opening{open: true, keep: true, trust: trust{sent: mono.Now()}})
	require.True(t, joins(c, n))
	c.flights.believe(n, opening{open: true, keep: true, trust: trust{sent: mono.Now() - int64(DefaultMaxStaleness)}})
	require.False(t, joins(c, n), "its word was sent more than MaxStaleness ago")
	require.False(t, c.local.Live(n.ticket))
}

func TestNobodyJoinsAFlightWhoseWordIsInDoubt(t *testing.T) {
	t.Parallel()
	c, n := waiting(t)
	c.flights.believe(n, opening{open: true, keep: true, trust: trust{sent: mono.Now()}})
	require.True(t, joins(c, n))
	c.flights.believe(n, opening{open: true, trust: trust{sent: mono.Now()}})
	require.False(t, joins(c, n))
}

// What was confirmed before the first heartbeat was confirmed by nobody knows whom.
func TestWhatIsConfirmedBeforeTheFirstHeartbeatIsRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := unconnected(time.Second)
		require.True(t, journalOf(c, "k").add(journalOf(c, "k").begin(), []string{"k"}))
		l := listenerOf(c, "k")
		time.Sleep(1)
		l.Beat(goodBeat(mono.Now(), epochA))
		require.True(t, pendingOf(c, "k").has("k"))
		require.Zero(t, gateOf(c, "k").moved(), "but nothing has moved")
	})
}

// A server takes over between the moment when a flight looks whether Redis may be believed and the answer of its read: the
// answer may be of the new one, which may lack an invalidation.
func TestAReadDuringAMoveIsNotBelieved(t *testing.T) {
	t.Parallel()
	for name, read := range map[string]func(t *testing.T, r rig, c *Cache[int]) int{
		"by a read": func(t *testing.T, r rig, c *Cache[int]) int {
			t.Helper()
			var once sync.Once
			r.intercept(func(cmd string, _ []string) error {
				if cmd == "HGET" {
					once.Do(func() { reportMove(c) })
				}
				return nil
			})
			return get(t, c, "k")
		},
		"by the answer to who asks to load": func(t *testing.T, _ rig, c *Cache[int]) int {
			t.Helper()
			f := &flight[int]{key: "k", ctx: t.Context(), load: c.opts.Load, ticket: c.ticket("k"), done: make(chan struct{})}
			o := gateOf(c, "k").look()
			reportMove(c)
			v, err := c.fetchLeased(f, c.newBudget(), o, remote.Wanted)
			require.NoError(t, err)
			return v
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, r rig) {
				s := newSource()
				f := fleet(t, 2, r, s)
				get(t, f[1], "k") // Redis has it
				eventually(t, "a heartbeat", func() bool { return f[0].Health().RemoteTrusted })
				s.write("k") // and what invalidated it is lost
				require.Equal(t, 1, read(t, r, f[0]))
			})
		})
	}
}
