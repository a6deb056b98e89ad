package pubsub

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/require"
)

func TestASecondMemberOfAConfirmedChannelBeginsAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first, _ := r.joined("a", lasting)
	second, leave := r.join("a", lasting)
	require.Equal(t, 1, second.count("begin"), "when Join returns")
	require.Equal(t, "begin", second.all()[0].what)
	eventually(t, "a proof", second.proven)
	require.Equal(t, 1, first.count("begin"), "which is no matter of the first")
	r.publish("a", inv("k"))
	eventually(t, "both hear", func() bool { return first.count("message") == 1 && second.count("message") == 1 })
	leave()
	leave() // twice is once
	r.publish("a", inv("k"))
	eventually(t, "the first still hears", func() bool { return first.count("message") == 2 })
	require.Equal(t, 1, second.count("message"))
	require.EqualValues(t, 1, r.bus.Sessions())
}

func TestASecondMemberBeforeTheConfirmationBeginsWithTheFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	gate := make(chan struct{})
	var reached atomic.Bool
	r.onCommand(func(_ *server.Peer, cmd string, _ []string) bool {
		if cmd == "SUBSCRIBE" {
			reached.Store(true)
			<-gate
		}
		return false
	})
	first, _ := r.join("a", lasting)
	eventually(t, "the subscription", reached.Load)
	second, _ := r.join("a", lasting)
	require.Empty(t, first.all())
	require.Empty(t, second.all())
	close(gate)
	eventually(t, "proofs", func() bool { return first.proven() && second.proven() })
	require.Equal(t, "begin prove", first.story())
	require.Equal(t, "begin prove", second.story())
}

// A10 of the review: a bus that has proof for one channel proves nothing about another one that is not subscribed yet.
func TestAnotherChannelHasNoProofBeforeItsOwnConfirmation(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, _ := r.joined("a", lasting)
	gate := make(chan struct{})
	let := sync.OnceFunc(func() { close(gate) })
	defer let() // the rig cannot be taken down before
	var reached atomic.Bool
	r.onCommand(func(_ *server.Peer, cmd string, _ []string) bool {
		if cmd == "SUBSCRIBE" {
			reached.Store(true)
			<-gate
		}
		return false
	})
	b, _ := r.join("b", lasting)
	eventually(t, "the subscription", reached.Load)
	for range 5 {
		before := a.count("prove")
		r.bus.Kick()
		eventually(t, "a proof of a", func() bool { return a.count("prove") > before })
	}
	r.publish("b", inv("lost"))
	require.Empty(t, b.all())
	eventually(t, "the heartbeats are reported to b as well", func() bool { return len(b.reports()) >= 5 })
	let()
	eventually(t, "a proof of b", b.proven)
	require.Equal(t, "begin prove", b.story())
	r.publish("b", inv("k"))
	eventually(t, "b hears", func() bool { return b.count("message") == 1 })
	require.Equal(t, "begin prove", a.story(), "for a, nothing has happened")
	require.EqualValues(t, 1, r.bus.Sessions())
}

// Every interleaving of the confirmations with the commands: n times leave and rejoin while Redis does not answer.
func TestLeavingAndRejoiningEndsWithASubscriptionThatHears(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 4; n++ {
		for _, confirmed := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d times, confirmed before: %v", n, confirmed), func(t *testing.T) {
				t.Parallel()
				r := newRig(t)
				a, _ := r.joined("a", lasting)
				var leave func()
				gate := make(chan struct{})
				stop := func() {
					r.onCommand(func(_ *server.Peer, cmd string, _ []string) bool {
						if strings.HasSuffix(cmd, "SUBSCRIBE") {
							<-gate
						}
						return false
					})
				}
				if confirmed {
					_, leave = r.joined("b", lasting)
					stop()
				} else {
					stop()
					_, leave = r.join("b", lasting)
				}
				var h *recorder
				for range n {
					leave()
					h, leave = r.join("b", lasting)
				}
				require.Empty(t, h.all(), "nothing is confirmed yet")
				close(gate)
				eventually(t, "a proof", h.proven)
				require.Equal(t, "begin prove", h.story())
				r.publish("b", inv("k"))
				eventually(t, "a message", func() bool { return h.count("message") == 1 })
				require.EqualValues(t, 1, r.bus.Sessions(), "no other session was needed")
				require.Equal(t, "begin prove", a.story())
			})
		}
	}
}

func TestLeavingForGoodUnsubscribes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, _ := r.joined("a", lasting)
	for range 3 {
		b, leave := r.joined("b", lasting)
		require.Contains(t, r.mini.PubSubChannels(""), "b")
		leave()
		eventually(t, "unsubscribed", func() bool { return r.mini.PubSubNumSub("b")["b"] == 0 })
		heard := len(b.all())
		r.publish("b", inv("k"))
		before := a.count("prove")
		r.bus.Kick()
		eventually(t, "a proof", func() bool { return a.count("prove") > before })
		require.Len(t, b.all(), heard, "nothing after leaving")
	}
	r.bus.mu.Lock()
	defer r.bus.mu.Unlock()
	require.Len(t, r.bus.channels, 1, "and what was left is forgotten")
}

func TestLeavingBeforeTheConnectionStands(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var allowed atomic.Bool
	on := func(context.Context) error {
		if allowed.Load() {
			return nil
		}
		return errRefused
	}
	r.wire.onDial.Store(&on)
	a, _ := r.join("a", lasting)
	b, leave := r.join("b", lasting)
	leave()
	c, leave := r.join("b", lasting)
	leave()
	d, _ := r.join("b", lasting)
	allowed.Store(true)
	eventually(t, "proofs", func() bool { return a.proven() && d.proven() })
	require.Empty(t, b.all())
	require.Empty(t, c.all())
	require.Equal(t, "begin prove", d.story())
}

// The bus is connecting and has asked for the channel; its last member leaves, and another joins as soon as the connection
// is there. The confirmation of the first subscription then counts for the second member, and the one that it asked for
// itself looks like a repetition.
func TestLeavingWhileConnectingAndRejoining(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	writing, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	on := func(c *wireConn, _ []byte) {
		if c.subscribed.Load() {
			once.Do(func() {
				close(writing)
				<-gate
			})
		}
	}
	r.wire.onWrite.Store(&on)
	a, _ := r.join("a", lasting)
	_, leave := r.join("b", lasting)
	<-writing
	leave()
	letGo := r.wire.subscription().holdReads() // until b has joined again
	close(gate)
	eventually(t, "connected", func() bool { return r.bus.Sessions() == 1 })
	b, _ := r.join("b", lasting)
	letGo()
	eventually(t, "proofs", func() bool { return a.proven() && b.proven() })
	r.publish("b", inv("k"))
	eventually(t, "a message", func() bool { return b.count("message") == 1 })
	require.EqualValues(t, 1, r.bus.Sessions())
	require.Equal(t, "begin prove", a.story())
}

func TestMembersComeAndGoAtRandom(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, _ := r.joined("a", lasting)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			channel := fmt.Sprint("b", i%2)
			for range 50 {
				h := r.recorder()
				leave, err := r.bus.Join(topic(channel, lasting, h))
				if err != nil {
					t.Error(err)
					return
				}
				leave()
			}
		})
	}
	wg.Wait()
	for _, channel := range []string{"b0", "b1"} {
		h, _ := r.joined(channel, lasting)
		r.publish(channel, inv("k"))
		eventually(t, "a message", func() bool { return h.count("message") == 1 })
	}
	require.EqualValues(t, 1, r.bus.Sessions())
	require.Equal(t, "begin prove", a.story())
}

// Whoever joins while there is no connection is told by the receiver, and once.
func TestJoiningBetweenTwoConnections(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, _ := r.joined("a", lasting)
	dialling, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	on := func(context.Context) error {
		once.Do(func() {
			close(dialling)
			<-gate
		})
		return nil
	}
	r.wire.onDial.Store(&on)
	r.wire.subscription().kill()
	<-dialling
	a2, _ := r.join("a", lasting)
	b, _ := r.join("b", lasting)
	require.Empty(t, a2.all())
	close(gate)
	eventually(t, "proofs", func() bool { return a.proven() && a2.proven() && b.proven() })
	require.Equal(t, "begin prove", a2.story())
	require.Equal(t, "begin prove", b.story())
	require.Equal(t, "begin prove end begin prove", a.story())
}

// Whoever joins after the list of channels was made for a connection, and before that connection is the bus' current one.
func TestJoiningWhileConnecting(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	writing, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	on := func(c *wireConn, _ []byte) {
		if c.subscribed.Load() {
			once.Do(func() {
				close(writing)
				<-gate
			})
		}
	}
	r.wire.onWrite.Store(&on)
	a, _ := r.join("a", lasting)
	<-writing
	a2, _ := r.join("a", lasting)
	b, _ := r.join("b", lasting)
	close(gate)
	eventually(t, "proofs", func() bool { return a.proven() && a2.proven() && b.proven() })
	for _, h := range []*recorder{a, a2, b} {
		require.Equal(t, "begin prove", h.story())
	}
	require.EqualValues(t, 1, r.bus.Sessions())
}

// Beat is the one call that is made without the bus' lock; a member that has left should not get it all the same.
func TestNothingIsHeardAfterLeaving(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, _ := r.joined("a", lasting)
	b, leave := r.joined("b", lasting)
	reached, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r.onCommand(func(_ *server.Peer, cmd string, _ []string) bool {
		if strings.HasPrefix(cmd, "EVAL") {
			once.Do(func() {
				close(reached)
				<-gate
			})
		}
		return false
	})
	r.bus.Kick()
	<-reached
	leave()
	heard, n := len(b.reports()), len(a.reports())
	close(gate)
	eventually(t, "the report, and one more", func() bool {
		r.bus.Kick()
		return len(a.reports()) > n+1
	})
	require.Len(t, b.reports(), heard)
}
