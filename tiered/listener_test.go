package tiered

import (
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/pubsub"
)

// C3: an InvalidateAll that was missed while there was no subscription.
//
//  1. the subscription is lost; another instance calls InvalidateAll, whose message is missed;
//  2. the new session begins: listener.Begin has replaced L1's session, and is stopped before it doubts the epoch;
//  3. a Get takes its ticket in the new session, believes L2 on the word of the last heartbeat, reads an entry of the old
//     epoch, and keeps it in L1;
//  4. the new session's proofs vouch for it until its LocalTTL.
func TestC3AnInvalidateAllMissedBeforeASession(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r rig) {
		s := newSource()
		c := instance(t, r, s, func(o *Options[int]) { o.MaxStaleness = 3 * time.Second })
		l := listenerOf(c, "k")
		require.Equal(t, 0, get(t, c, "k"))

		beats := make(chan struct{})
		r.intercept(func(cmd string, args []string) error {
			if isBeat(cmd, args) {
				<-beats
			}
			return nil
		})
		l.End(io.EOF) // 1
		s.write("k")
		r.set(r.epoch("k"), "00000000000000ff:+")
		missed := mono.Now()

		before := ticketOf(c, "k")
		untrustedOf(c, "k").mu.Lock() // 2: where Begin is stopped
		began := make(chan struct{})
		go func() { l.Begin(); close(began) }()
		eventually(t, "the new session", func() bool { return !c.local.Live(before) })
		require.True(t, gateOf(c, "k").look().open, "the test was too slow")
		require.Equal(t, 0, get(t, c, "k"), "3: right, within MaxStaleness")
		untrustedOf(c, "k").mu.Unlock()
		<-began
		close(beats)
		r.up()

		eventually(t, "a proof", func() bool { return proofOf(c, "k")-missed > int64(c.opts.MaxStaleness) })
		require.Equal(t, 1, get(t, c, "k"), "4: C3")
	})
}

// seen is what was counted when a waiter was told, which comes right after the eviction.
type seen struct {
	count func() uint64
	was   []uint64
}

func (s *seen) hear(string, news) { s.was = append(s.was, s.count()) }

// Who waits for the number must find in L1 what came of the message.
func TestAnInvalidationIsCountedOnceItIsApplied(t *testing.T) {
	t.Parallel()
	c := instance(t, newRedis(t), newSource())
	s := &seen{count: func() uint64 { return c.Stats().Received }}
	for _, key := range []string{"a", "b"} {
		c.waiters.listen(key, s)
		defer c.waiters.remove(key, s)
	}
	before := s.count()
	listenerOf(c, "a").Message(pubsub.Message{Op: pubsub.Invalidate, Keys: []string{"a", "b"}})
	require.Equal(t, []uint64{before, before}, s.was)
	require.Equal(t, before+2, s.count())
}
