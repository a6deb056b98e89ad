package pubsub

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
)

func TestTheFirstMemberBeginsAndThenHasProof(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	require.Zero(t, r.bus.Sessions())
	before := mono.Now()
	h, _ := r.join("a", lasting)
	eventually(t, "a proof", h.proven)
	eventually(t, "a report", func() bool { return len(h.reports()) > 0 })
	reports, proofs := h.reports(), h.of("prove")
	after := mono.Now()
	require.Equal(t, "begin prove", h.story())
	require.EqualValues(t, 1, r.bus.Sessions())

	version, err := r.mini.Get("version-of-a")
	require.NoError(t, err)
	require.Regexp(t, `^[0-9a-f]{16}:\+[0-9]+$`, version, "a miniredis does not tell its replication id")
	require.Equal(t, time.Hour, r.mini.TTL("version-of-a"))
	for _, b := range reports {
		require.NoError(t, b.Err)
		require.Equal(t, version[:16], b.Version)
		require.LessOrEqual(t, before, b.Sent)
		require.LessOrEqual(t, b.Sent, b.Received)
		require.LessOrEqual(t, b.Received, after)
		require.InDelta(t, time.Now().UnixMilli(), b.RedisNow, float64(patience.Milliseconds()))
	}
	for _, e := range proofs {
		require.LessOrEqual(t, before, e.at)
		require.LessOrEqual(t, e.at, after)
	}
	require.Empty(t, r.mini.Keys()[1:], "the heartbeat leaves nothing but the version")
}

func TestNothingConnectsBeforeTheFirstMemberJoins(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.bus.Kick()
	require.Regexp(t, "^[0-9a-f]{16}$", r.bus.ID())
	require.Equal(t, "tandem:inst:"+r.bus.ID()+":0", r.bus.Inbox())
	other := New(r.client, Options{DB: 3})
	require.NotEqual(t, r.bus.ID(), other.ID())
	require.True(t, strings.HasSuffix(other.Inbox(), ":3"))
	require.Zero(t, r.wire.dialled.Load())
	other.Close()
}

func TestJoinRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, bound := range []time.Duration{0, -1, -time.Second} {
		leave, err := r.bus.Join(topic("a", bound, r.recorder()))
		require.ErrorContains(t, err, "must be positive")
		require.Nil(t, leave)
	}
	require.Zero(t, r.wire.dialled.Load())
	r.bus.Close()
	leave, err := r.bus.Join(topic("a", lasting, r.recorder()))
	require.ErrorIs(t, err, ErrClosed)
	require.Nil(t, leave)
}

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

func TestALostConnectionEndsTheSessionAndBeginsAnother(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, _ := r.joined("a", lasting)
	b, _ := r.joined("b", lasting)
	r.publish("a", inv("before"))
	eventually(t, "a message", func() bool { return a.count("message") == 1 })

	// Redis is not to be reached for a while, in which messages are lost.
	var allowed atomic.Bool
	on := func(context.Context) error {
		if allowed.Load() {
			return nil
		}
		return errRefused
	}
	r.wire.onDial.Store(&on)
	r.wire.subscription().kill()
	eventually(t, "the end", func() bool { return a.count("end") == 1 && b.count("end") == 1 })
	r.publish("a", inv("in between"))
	require.Error(t, a.of("end")[0].err)
	require.NotErrorIs(t, a.of("end")[0].err, ErrClosed)
	allowed.Store(true)
	eventually(t, "proofs", func() bool { return a.proven() && b.proven() })
	r.publish("a", inv("after"))
	eventually(t, "a message", func() bool { return a.count("message") == 2 })
	require.Equal(t, []string{"before", "after"}, a.keys())
	require.Equal(t, "begin inv(before) end begin inv(after)", a.plot())
	require.EqualValues(t, 2, r.bus.Sessions())
	require.Len(t, r.wire.subscriptions(), 2, "on a connection of its own")
	a.checkProofs()
	b.checkProofs()
}

func TestManyLostConnections(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, _ := r.joined("a", lasting)
	for i := range 6 {
		r.wire.subscription().kill()
		eventually(t, "the end", func() bool { return a.count("end") == i+1 })
		eventually(t, "a proof", a.proven)
		r.publish("a", inv(fmt.Sprint(i)))
		eventually(t, "a message", func() bool { return a.count("message") == i+1 })
	}
	require.EqualValues(t, 7, r.bus.Sessions())
	a.checkProofs()
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

func TestAServerThatRestarts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, _ := r.joined("a", lasting)
	b, _ := r.joined("b", lasting)
	for i := 1; i <= 3; i++ {
		r.mini.Close()
		eventually(t, "the end", func() bool { return a.count("end") == i && b.count("end") == i })
		require.NoError(t, r.mini.Restart())
		eventually(t, "proofs", func() bool {
			r.bus.Kick()
			return a.proven() && b.proven()
		})
		r.publish("a", inv(fmt.Sprint(i)))
		eventually(t, "a message", func() bool { return a.count("message") == i })
	}
	a.checkProofs()
	b.checkProofs()
}

func TestAServerThatIsDownAtFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mini.Close()
	h, _ := r.join("a", lasting)
	eventually(t, "failed heartbeats", func() bool { return len(h.reports()) >= 3 })
	for _, b := range h.reports() {
		require.Error(t, b.Err)
		require.Zero(t, b.RedisNow)
		require.Empty(t, b.Version)
		require.NotZero(t, b.Sent)
	}
	require.Empty(t, h.all())
	require.Zero(t, r.bus.Sessions())
	require.NoError(t, r.mini.Restart())
	eventually(t, "a proof", h.proven)
	require.Equal(t, "begin prove", h.story())
}

// A demoted master answers on every connection and refuses to write: the subscription lives, and proves nothing.
func TestHeartbeatsThatAreRefusedProveNothing(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"demoted":  "READONLY You can't write against a read only replica.",
		"isolated": "NOREPLICAS Not enough good replicas to write.",
		"no right": "NOPERM this user has no permissions to run the 'publish' command",
		"loading":  "LOADING Redis is loading the dataset in memory",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			h, _ := r.joined("a", lasting)
			eventually(t, "a report", func() bool { return len(h.reports()) > 0 })
			r.onCommand(func(p *server.Peer, cmd string, _ []string) bool {
				if strings.HasPrefix(cmd, "EVAL") {
					p.WriteError(answer)
					return true
				}
				return false
			})
			refused := func() int {
				n := 0
				for _, b := range h.reports() {
					if b.Err != nil && b.Err.Error() == answer {
						n++
					}
				}
				return n
			}
			eventually(t, "the first refusal", func() bool {
				r.bus.Kick()
				return refused() >= 1
			})
			// A heartbeat from before may still be on its way; it is before what is published now.
			r.publish("a", inv("mark"))
			eventually(t, "the mark", func() bool { return h.count("message") == 1 })
			proofs := h.count("prove")
			for i := range 5 {
				eventually(t, "refusals", func() bool {
					r.bus.Kick()
					return refused() >= i+2
				})
			}
			require.Equal(t, proofs, h.count("prove"))
			require.Equal(t, "begin inv(mark)", h.plot(), "the subscription lives")
			r.publish("a", inv("k"))
			eventually(t, "a message", func() bool { return h.count("message") == 2 })
			r.onCommand(nil)
			eventually(t, "a proof", func() bool {
				r.bus.Kick()
				return h.count("prove") > proofs
			})
			require.EqualValues(t, 1, r.bus.Sessions())
		})
	}
}

func TestAServerThatAnswersNothingButErrors(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	h, _ := r.joined("a", lasting)
	proofs := h.count("prove")
	r.mini.SetError("LOADING not yet")
	eventually(t, "an error", func() bool {
		r.bus.Kick()
		all := h.reports()
		return len(all) > 0 && all[len(all)-1].Err != nil
	})
	require.Equal(t, "begin prove", h.story())
	r.mini.SetError("")
	eventually(t, "a proof", func() bool {
		r.bus.Kick()
		return h.count("prove") > proofs
	})
}

// answerBeat answers a heartbeat for one topic with this time and this version.
func answerBeat(w *server.Writer, now, version func()) {
	w.WriteLen(7)
	now()
	w.WriteBulk("id")
	w.WriteInt(1)
	w.WriteBulk("run")
	w.WriteInt(0)
	version()
	w.WriteInt(-1)
}

func TestAHeartbeatWithAnAnswerOfAnotherKindIsAnError(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(w *server.Writer){
		"too short": func(w *server.Writer) { w.WriteLen(1); w.WriteInt(1) },
		"too long": func(w *server.Writer) {
			w.WriteLen(8)
			w.WriteInt(1)
			w.WriteBulk("id")
			w.WriteInt(1)
			w.WriteBulk("run")
			w.WriteInt(0)
			w.WriteBulk("x")
			w.WriteInt(-1)
			w.WriteBulk("y")
		},
		"no list":        func(w *server.Writer) { w.WriteBulk("x") },
		"time is text":   func(w *server.Writer) { answerBeat(w, func() { w.WriteBulk("1") }, func() { w.WriteBulk("x") }) },
		"no version":     func(w *server.Writer) { answerBeat(w, func() { w.WriteInt(1) }, w.WriteNull) },
		"version number": func(w *server.Writer) { answerBeat(w, func() { w.WriteInt(1) }, func() { w.WriteInt(1) }) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.onCommand(func(p *server.Peer, cmd string, _ []string) bool {
				if !strings.HasPrefix(cmd, "EVAL") {
					return false
				}
				p.Block(answer)
				return true
			})
			h, _ := r.join("a", lasting)
			eventually(t, "a report", func() bool { return len(h.reports()) > 0 })
			b := h.reports()[0]
			require.Error(t, b.Err)
			require.Empty(t, b.Version)
			require.Zero(t, b.RedisNow)
			require.Zero(t, h.count("prove"))
		})
	}
}

func TestAMessageThatCannotBeReadIsToldAndTheSessionGoesOn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, _ := r.joined("a", lasting)
	a2, _ := r.joined("a", lasting)
	b, _ := r.joined("b", lasting)
	strays := []string{
		"", "hello", "tandem/2 inv 1:s,1:k,", "tandem/1 inv 1:s,", "tandem/1 flush 1:s,", everyByte(),
		strings.Repeat("x", MaxMessageBytes+1),
		string(Message{Op: Beat, Token: "t"}.Encode()), // of a private channel
		string(Message{Op: Wake, Channel: "a", Keys: []string{"k"}, Outcome: Filled}.Encode()),
	}
	for i, s := range strays {
		r.mini.Publish("a", s)
		eventually(t, "told", func() bool { return a.count("unreadable") == i+1 && a2.count("unreadable") == i+1 })
		require.ErrorIs(t, a.of("unreadable")[i].err, ErrMessage)
	}
	r.publish("a", inv("k"))
	eventually(t, "a message", func() bool { return a.count("message") == 1 && a2.count("message") == 1 })
	require.Zero(t, a.count("end"))
	require.EqualValues(t, 1, r.bus.Sessions())
	require.Equal(t, "begin prove", b.story(), "the other topic is not concerned")
}

// Only the bus knows its heartbeats' tokens. Whoever else writes to its private channel proves nothing and changes nothing.
func TestStrayMessagesOnThePrivateChannelProveNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var beats sync.Map // token of each heartbeat that was sent
	r.onCommand(func(_ *server.Peer, cmd string, args []string) bool {
		if strings.HasPrefix(cmd, "EVAL") {
			for _, arg := range args {
				if m, err := Parse(arg); err == nil && m.Op == Beat {
					beats.Store(m.Token, true)
				}
			}
		}
		return false
	})
	h, _ := r.joined("a", lasting)
	eventually(t, "a report", func() bool { return len(h.reports()) >= 2 })
	r.onCommand(func(p *server.Peer, cmd string, _ []string) bool { // from here on no heartbeat succeeds
		if strings.HasPrefix(cmd, "EVAL") {
			p.WriteError("READONLY no")
			return true
		}
		return false
	})
	quiet := func() {
		t.Helper()
		// A message on the topic's channel comes after all that was published before.
		n := h.count("message")
		r.publish("a", inv("mark"))
		eventually(t, "the mark", func() bool { return h.count("message") == n+1 })
	}
	quiet()
	proofs := h.of("prove")
	for _, s := range []string{
		"", "junk", "tandem/1 beat 0:,", "tandem/1 beat 32:0123456789abcdef0123456789abcdef,", "tandem/1 beat 1:x,", "tandem/1 beat ",
		"tandem/1 all 1:s,", "tandem/1 inv 1:s,1:k,", everyByte(), strings.Repeat("x", MaxMessageBytes+1),
		"tandem/1 wake 1:z,1:k,6:filled,", "tandem/1 wake 0:,1:k,6:filled,",
	} {
		r.mini.Publish(r.bus.Inbox(), s)
		quiet()
		require.Equal(t, proofs, h.of("prove"), "%.64q", s)
	}
	require.Zero(t, h.count("unreadable"))
	require.Zero(t, h.count("end"))

	// A heartbeat that comes back once more proves what it has proven already.
	known := map[int64]bool{}
	for _, b := range h.reports() {
		known[b.Sent] = true
	}
	beats.Range(func(token, _ any) bool {
		r.publish(r.bus.Inbox(), Message{Op: Beat, Token: token.(string)})
		return true
	})
	quiet()
	for _, e := range h.of("prove") {
		require.True(t, known[e.at])
	}
}

func TestTheOrderOfMessagesIsKept(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, _ := r.joined("a", lasting)
	b, _ := r.joined("b", lasting)
	const n = 2000
	var want []string
	for i := range n {
		key := fmt.Sprint(i)
		want = append(want, key)
		r.publish("a", inv(key))
		if i%10 == 0 {
			r.publish("b", inv(key))
		}
	}
	eventually(t, "all", func() bool { return a.count("message") == n && b.count("message") == n/10 })
	require.Equal(t, want, a.keys())
}

// What comes back as a proof has been published after all messages that were published before the heartbeat was sent.
func TestAProofComesAfterTheMessagesThatItCovers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	h, _ := r.joined("a", lasting)
	for i := range 200 {
		published := mono.Now()
		r.publish("a", inv(fmt.Sprint(i)))
		after := mono.Now()
		r.bus.Kick()
		covered := func() bool {
			all := h.of("prove")
			return all[len(all)-1].at >= after
		}
		eventually(t, "a proof", covered)
		seen := -1
		for _, e := range h.all() {
			if e.what == "message" {
				seen++
			}
			if e.what == "prove" && e.at >= after {
				require.GreaterOrEqual(t, seen, i, "message %d, published at %d", i, published)
			}
		}
	}
}

func TestAWakeGoesToItsTopic(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, _ := r.joined("a", lasting)
	b, _ := r.joined("b", lasting)
	b2, _ := r.joined("b", lasting)
	filled := Message{Op: Wake, Channel: "b", Keys: []string{"k"}, Outcome: Filled}
	failed := Message{Op: Wake, Channel: "b", Keys: []string{"l"}, Outcome: Failed}
	r.publish(r.bus.Inbox(), filled)
	r.publish(r.bus.Inbox(), Message{Op: Wake, Channel: "nobody's", Keys: []string{"k"}, Outcome: Filled})
	r.publish(r.bus.Inbox(), failed)
	eventually(t, "both", func() bool { return b.count("message") == 2 && b2.count("message") == 2 })
	for _, h := range []*recorder{b, b2} {
		require.Equal(t, filled, h.of("message")[0].m)
		require.Equal(t, failed, h.of("message")[1].m)
	}
	require.Zero(t, a.count("message"))
}

func TestEveryKindOfMessageIsHandedOver(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	h, _ := r.joined("a", lasting)
	all := []Message{
		{Op: Invalidate, Sender: "s", Keys: []string{"1", "2"}},
		{Op: All, Sender: "s"},
		{Op: Invalidate, Sender: r.bus.ID(), Keys: numbered(MaxKeys, 6)}, // also its own
	}
	for _, m := range all {
		r.publish("a", m)
	}
	eventually(t, "all", func() bool { return h.count("message") == len(all) })
	for i, e := range h.of("message") {
		require.Equal(t, all[i], e.m)
	}
}

func TestHandlersAreCalledOneAtATime(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var heard atomic.Int64
	slow := func(e event) { // so that an overlap has time to happen
		if e.what == "message" {
			heard.Add(1)
		}
		for range 10 {
			runtime.Gosched()
		}
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var members []*recorder
	for i := range 3 {
		h := r.recorder()
		h.on = slow
		_, err := r.bus.Join(topic(fmt.Sprint("c", i), lasting, h))
		require.NoError(t, err)
		members = append(members, h)
	}
	for _, h := range members {
		eventually(t, "a proof", h.proven)
	}
	wg.Go(func() { // messages
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				before := heard.Load()
				r.publish(fmt.Sprint("c", i%3), inv("k"))
				r.bus.Kick()
				// No flood: a socket that is full holds up everything on a miniredis.
				for until := time.Now().Add(5 * time.Millisecond); heard.Load() == before && time.Now().Before(until); {
					runtime.Gosched()
				}
			}
		}
	})
	for i := range 2 { // members that come and go
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				h := r.recorder()
				h.on = slow
				leave, err := r.bus.Join(topic(fmt.Sprint("c", (i+n)%4), lasting, h))
				if err != nil {
					t.Error(err)
					return
				}
				leave()
			}
		})
	}
	for i := range 5 { // connections that die
		eventually(t, "messages", func() bool { return members[0].count("message") > 20*i })
		n := members[0].count("end")
		r.wire.subscription().kill()
		eventually(t, "the end", func() bool { return members[0].count("end") > n })
		eventually(t, "a proof", members[0].proven)
	}
	close(stop)
	wg.Wait()
}

// Redis says something that was not asked for: whatever it means, it is a reason for doubt.
func TestUnexpectedConfirmationsEndTheSession(t *testing.T) {
	t.Parallel()
	confirm := func(kind, channel string) func(w *server.Writer) {
		return func(w *server.Writer) {
			w.WritePushLen(3)
			w.WriteBulk(kind)
			w.WriteBulk(channel)
			w.WriteInt(2)
		}
	}
	for name, answer := range map[string]func(w *server.Writer){
		"a channel confirmed again":   confirm("subscribe", "a"),
		"unsubscribed unasked":        confirm("unsubscribe", "a"),
		"another one unsubscribed":    confirm("unsubscribe", "z"),
		"a pattern":                   confirm("psubscribe", "a"),
		"a shard's channel taken off": confirm("sunsubscribe", "a"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			var subscriber atomic.Pointer[server.Peer]
			r.onCommand(func(p *server.Peer, cmd string, _ []string) bool {
				if cmd == "SUBSCRIBE" {
					subscriber.Store(p)
				}
				return false
			})
			h, _ := r.joined("a", lasting)
			subscriber.Load().Block(func(w *server.Writer) { answer(w); w.Flush() })
			eventually(t, "the end", func() bool { return h.count("end") == 1 })
			eventually(t, "a proof", h.proven)
			require.EqualValues(t, 2, r.bus.Sessions())
			h.checkProofs()
		})
	}
}

// Bytes that are not Redis' protocol make go-redis fail, or panic. Neither is the end of the process or of the bus.
func TestNonsenseOnTheConnectionEndsTheSession(t *testing.T) {
	t.Parallel()
	for name, nonsense := range map[string]string{
		"not RESP":                 "HTTP/1.1 400 Bad Request\r\n\r\n",
		"an error":                 "-ERR go away\r\n",
		"too short":                ">1\r\n$7\r\nmessage\r\n",
		"empty list":               "*0\r\n",
		"message of numbers":       "*3\r\n$7\r\nmessage\r\n:1\r\n:2\r\n",
		"message without a text":   "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n:2\r\n",
		"kind is a number":         "*3\r\n:1\r\n$1\r\na\r\n$1\r\nx\r\n",
		"confirmation without one": "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n$1\r\nx\r\n",
		"confirmation, too short":  "*1\r\n$9\r\nsubscribe\r\n",
		"pmessage, too short":      "*2\r\n$8\r\npmessage\r\n$1\r\na\r\n",
		"pong, too short":          "*1\r\n$4\r\npong\r\n",
		"a number":                 ":1\r\n",
		"a word that is none":      "*3\r\n$5\r\nhello\r\n$1\r\na\r\n:1\r\n",
		"a map":                    "%1\r\n$1\r\na\r\n$1\r\nb\r\n",
		"nil":                      "_\r\n",
		"nil message":              "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n_\r\n",
		"length too long":          "*99999999999999999999\r\n",
		"string too long":          "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$-5\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			var subscriber atomic.Pointer[server.Peer]
			r.onCommand(func(p *server.Peer, cmd string, _ []string) bool {
				if cmd == "SUBSCRIBE" {
					subscriber.Store(p)
				}
				return false
			})
			h, _ := r.joined("a", lasting)
			subscriber.Load().Block(func(w *server.Writer) { w.WriteRaw(nonsense); w.Flush() })
			eventually(t, "the end", func() bool { return h.count("end") == 1 })
			eventually(t, "a proof", h.proven)
			h.checkProofs()
		})
	}
}

func TestAPongIsNoMatter(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var subscriber atomic.Pointer[server.Peer]
	r.onCommand(func(p *server.Peer, cmd string, _ []string) bool {
		if cmd == "SUBSCRIBE" {
			subscriber.Store(p)
		}
		return false
	})
	h, _ := r.joined("a", lasting)
	subscriber.Load().Block(func(w *server.Writer) { w.WriteRaw("+PONG\r\n>2\r\n$4\r\npong\r\n$1\r\nx\r\n"); w.Flush() })
	r.publish("a", inv("k"))
	eventually(t, "a message", func() bool { return h.count("message") == 1 })
	require.EqualValues(t, 1, r.bus.Sessions())
}

// A panic in a handler is a mistake of ours; it must not take the process down or leave the bus' lock held.
func TestAHandlerThatPanics(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, _ := r.joined("a", lasting)
	h := r.recorder()
	var once sync.Once
	h.on = func(e event) {
		if e.what == "message" {
			once.Do(func() { panic("not today") })
		}
	}
	_, err := r.bus.Join(topic("b", lasting, h))
	require.NoError(t, err)
	eventually(t, "a proof", h.proven)
	r.publish("b", inv("k"))
	eventually(t, "the end", func() bool { return h.count("end") == 1 && a.count("end") == 1 })
	require.ErrorContains(t, h.of("end")[0].err, "not today")
	eventually(t, "proofs", func() bool { return h.proven() && a.proven() })
}

func TestEveryTopicIsToldItsOwnVersion(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	require.NoError(t, r.mini.Set("version-of-a", "00000000000000aa:+"))
	require.NoError(t, r.mini.Set("version-of-b", "00000000000000bb:+"))
	a, _ := r.joined("a", lasting)
	b, _ := r.joined("b", lasting)
	a2, _ := r.joined("a", lasting)
	for h, want := range map[*recorder]string{a: "00000000000000aa", b: "00000000000000bb", a2: "00000000000000aa"} {
		eventually(t, "a report", func() bool { return len(h.reports()) > 0 })
		for _, report := range h.reports() {
			require.NoError(t, report.Err)
			require.Equal(t, want, report.Version)
		}
	}
	require.NoError(t, r.mini.Set("version-of-a", "00000000000000ff:+"))
	eventually(t, "the new one", func() bool {
		r.bus.Kick()
		all := a.reports()
		return all[len(all)-1].Version == "00000000000000ff"
	})
}

func TestAVersionKeyThatCannotBeReadIsReplaced(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	require.NoError(t, r.mini.Set("version-of-a", "junk"))
	h, _ := r.joined("a", lasting)
	eventually(t, "a version", func() bool {
		r.bus.Kick()
		all := h.reports()
		return len(all) > 0 && len(all[len(all)-1].Version) == 16
	})
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

func TestCloseTellsTheMembers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, leaveA := r.joined("a", lasting)
	b, _ := r.joined("b", lasting)
	gone, leave := r.joined("b", lasting)
	leave()
	heard := len(gone.all())
	r.bus.Close()
	for _, h := range []*recorder{a, b} {
		require.Equal(t, "begin prove end", h.story())
		require.ErrorIs(t, h.of("end")[0].err, ErrClosed)
		h.checkProofs()
	}
	require.Len(t, gone.all(), heard)

	n, m := len(a.all()), len(a.reports())
	r.bus.Close() // twice is once
	r.bus.Stop()
	r.bus.Kick()
	leaveA()
	require.Len(t, a.all(), n)
	require.Len(t, a.reports(), m)
	require.NoError(t, r.client.Ping(t.Context()).Err(), "the client stays its owner's")
}

func TestConcurrentCloses(t *testing.T) {
	t.Parallel()
	for range 10 {
		r := newRig(t)
		h, leave := r.join("a", lasting)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(r.bus.Close)
		}
		wg.Go(leave)
		wg.Go(r.bus.Kick)
		wg.Wait()
		require.LessOrEqual(t, h.count("end"), 1)
	}
}

func TestCloseWithoutMembers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.bus.Close()
	r.bus.Close()
	require.Zero(t, r.wire.dialled.Load())
}
