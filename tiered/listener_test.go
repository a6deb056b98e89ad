package tiered

import (
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
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
