package pubsub

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
)

// bound is the promise of the members in these tests, which take as long as they say, but not of anybody's time.
const bound = 2 * time.Second

const (
	beatEvery = bound / beatsPerBound
	untilDead = beatEvery * 5 / 2 // see silence
	allowed   = beatEvery * 3 / 2 // see allowance
)

// inBubble runs a test with a clock of its own. It is not parallel: a bubble does not allow it.
func inBubble(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Helper()
		test(t, newRigInBubble(t))
	})
}

// begun joins and waits until the member has begun and has proof, which takes no time.
func (r *rig) begun(channel string, bound time.Duration) (*recorder, func()) {
	r.Helper()
	began := time.Now()
	h, leave := r.join(channel, bound)
	synctest.Wait()
	require.True(r, h.proven(), h.story())
	require.Zero(r, time.Since(began))
	return h, leave
}

// within waits for what must happen in that time at most, and returns how long it took.
func (r *rig) within(d time.Duration, what string, ok func() bool) time.Duration {
	r.Helper()
	began := time.Now()
	for synctest.Wait(); !ok(); synctest.Wait() {
		require.LessOrEqual(r, time.Since(began), d, what)
		time.Sleep(time.Millisecond)
	}
	return time.Since(began)
}

func TestThreeHeartbeatsWithinABound(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		h, _ := r.begun("a", bound)
		synctest.Wait()
		n := len(h.reports())
		const bounds = 60
		time.Sleep(bounds * bound)
		require.InDelta(t, bounds*beatsPerBound, len(h.reports())-n, bounds*beatsPerBound/10)
		all := h.reports()[n:]
		for i := range all[1:] {
			pause := time.Duration(all[i+1].Sent - all[i].Sent)
			require.GreaterOrEqual(t, pause, beatEvery*9/10)
			require.LessOrEqual(t, pause, beatEvery*11/10+1)
		}
		require.Equal(t, "begin prove", h.story())
		// All have come back; only the first two may have been sent before there was a subscription.
		require.GreaterOrEqual(t, h.count("prove"), len(h.reports())-2)
		require.EqualValues(t, 1, r.bus.Sessions())
		h.checkProofs()
	})
}

func TestTheSmallestBoundSetsThePace(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		h, _ := r.begun("a", time.Minute)
		pace := func() int {
			synctest.Wait()
			n := len(h.reports())
			time.Sleep(time.Minute)
			synctest.Wait()
			return len(h.reports()) - n
		}
		require.InDelta(t, time.Minute/maxInterval, pace(), 4)
		_, leave1 := r.begun("a", 2*time.Second)
		_, leave2 := r.begun("b", time.Second)
		require.InDelta(t, 180, pace(), 18)
		leave2()
		require.InDelta(t, 90, pace(), 9)
		leave1()
		time.Sleep(time.Second) // for the wait that was chosen before
		require.InDelta(t, time.Minute/maxInterval, pace(), 4)
	})
}

func TestTheProofIsNeverOlderThanHalfABound(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		h, _ := r.begun("a", bound)
		for range 1000 {
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			all := h.of("prove")
			require.Less(t, time.Duration(mono.Now()-all[len(all)-1].at), bound/2)
		}
	})
}

// Proofs are timed at the moment at which the heartbeat was sent, not when it came back: in between, messages may have been
// published that are behind it.
func TestProofIsTimedWhenTheHeartbeatWasSent(t *testing.T) {
	const delay = 700 * time.Millisecond
	// heard notes when each proof came.
	type heard struct {
		mu sync.Mutex
		at map[int64]int64
	}
	start := func(r *rig) (*recorder, *heard) {
		r.Helper()
		h, hs := r.recorder(), &heard{at: map[int64]int64{}}
		h.on = func(e event) {
			if e.what == "prove" {
				hs.mu.Lock()
				defer hs.mu.Unlock()
				hs.at[e.at] = mono.Now()
			}
		}
		_, err := r.bus.Join(topic("a", lasting, h))
		require.NoError(r, err)
		synctest.Wait()
		require.True(r, h.proven())
		return h, hs
	}
	last := func(r *rig, h *recorder, hs *heard) (proof, heard int64, report BeatReport) {
		r.Helper()
		proofs, reports := h.of("prove"), h.reports()
		proof = proofs[len(proofs)-1].at
		hs.mu.Lock()
		defer hs.mu.Unlock()
		return proof, hs.at[proof], reports[len(reports)-1]
	}

	t.Run("the server is slow to run it", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
			h, hs := start(r)
			r.onCommand(func(_ *server.Peer, cmd string, _ []string) bool {
				if cmd == "EVALSHA" {
					time.Sleep(delay)
				}
				return false
			})
			sent := mono.Now()
			r.bus.Kick()
			time.Sleep(2 * delay)
			synctest.Wait()
			proof, at, report := last(r, h, hs)
			require.Equal(t, sent, proof)
			require.Equal(t, sent, report.Sent)
			require.Equal(t, sent+int64(delay), at)
			require.Equal(t, sent+int64(delay), report.Received)
		})
	})
	t.Run("the message is slow to come", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
			h, hs := start(r)
			letGo := r.wire.subscription().holdReads()
			sent := mono.Now()
			r.bus.Kick()
			time.Sleep(delay)
			letGo()
			synctest.Wait()
			proof, at, report := last(r, h, hs)
			require.Equal(t, sent, proof)
			require.Equal(t, sent+int64(delay), at)
			require.Equal(t, sent, report.Received, "its reply was fast")
		})
	})
	t.Run("the reply is slow to come", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
			h, hs := start(r)
			r.wire.mu.Lock()
			var others []*wireConn
			for _, c := range r.wire.conns {
				if !c.subscribed.Load() {
					others = append(others, c)
				}
			}
			r.wire.mu.Unlock()
			var letGo []func()
			for _, c := range others {
				letGo = append(letGo, c.holdReads())
			}
			sent := mono.Now()
			r.bus.Kick()
			time.Sleep(delay)
			for _, f := range letGo {
				f()
			}
			synctest.Wait()
			proof, at, report := last(r, h, hs)
			require.Equal(t, sent, proof)
			require.Equal(t, sent, at)
			require.Equal(t, sent+int64(delay), report.Received)
		})
	})
	t.Run("an unknown script is sent twice", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
			h, hs := start(r)
			require.NoError(t, r.client.ScriptFlush(t.Context()).Err())
			r.onCommand(func(_ *server.Peer, cmd string, _ []string) bool {
				if strings.HasPrefix(cmd, "EVAL") {
					time.Sleep(delay)
				}
				return false
			})
			sent := mono.Now()
			r.bus.Kick()
			time.Sleep(3 * delay)
			synctest.Wait()
			proof, at, report := last(r, h, hs)
			require.Equal(t, sent, proof, "counted from the first")
			require.Equal(t, sent, report.Sent)
			require.Equal(t, sent+int64(2*delay), at)
		})
	})
}

// A link that died without a word: the heartbeats go out and are taken, and none comes back.
func TestASilentSubscriptionEndsWithinTheBound(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		h, _ := r.begun("a", bound)
		for i := range 5 {
			time.Sleep(3 * bound)
			synctest.Wait()
			proofs := h.count("prove")
			r.wire.subscription().mute.Store(true)
			muted := mono.Now()
			r.within(untilDead, "the end", func() bool { return h.count("end") == i+1 })
			require.ErrorIs(t, h.of("end")[i].err, errSilence)
			r.within(time.Second, "another session", func() bool { return h.count("begin") == i+2 && h.proven() })
			for _, b := range h.reports() {
				require.NoError(t, b.Err, "the heartbeats are well")
			}
			for _, e := range h.of("prove")[proofs:] {
				require.Greater(t, e.at, muted)
			}
		}
		require.EqualValues(t, 6, r.bus.Sessions())
		h.checkProofs()
	})
}

func TestAServerThatGoesSilentAltogether(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		h, _ := r.begun("a", bound)
		refuse := func(context.Context) error { return errRefused }
		r.wire.onDial.Store(&refuse)
		r.wire.muteAll()
		r.within(untilDead, "the end", func() bool { return h.count("end") == 1 })
		r.within(bound, "a failed heartbeat", func() bool {
			all := h.reports()
			return all[len(all)-1].Err != nil
		})
		time.Sleep(time.Minute)
		require.Less(t, r.wire.dialled.Load(), int64(10))
		r.wire.onDial.Store(nil)
		r.within(bound, "another session", h.proven)
		h.checkProofs()
	})
}

// While the heartbeats are refused a session ends for its silence and the next one begins, at a pace that troubles nobody.
func TestAMasterThatStaysDemoted(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		h, _ := r.begun("a", bound)
		r.onCommand(func(p *server.Peer, cmd string, _ []string) bool {
			if strings.HasPrefix(cmd, "EVAL") {
				p.WriteError("READONLY You can't write against a read only replica.")
				return true
			}
			return false
		})
		proofs, reports := h.count("prove"), len(h.reports())
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, proofs, h.count("prove"))
		for _, b := range h.reports()[reports:] {
			require.ErrorContains(t, b.Err, "READONLY")
		}
		require.LessOrEqual(t, r.bus.Sessions(), uint64(time.Minute/untilDead)+1)
		require.Less(t, len(h.reports()), int(time.Minute/(10*time.Millisecond)), "not in a busy loop")
		r.onCommand(nil)
		r.within(bound, "a proof", h.proven)
		h.checkProofs()
	})
}

func TestAnOutageIsNotMadeWorse(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		h, _ := r.begun("a", bound)
		var dials atomic.Int64
		refuse := func(context.Context) error {
			dials.Add(1)
			return errRefused
		}
		r.wire.onDial.Store(&refuse)
		r.wire.subscription().kill()
		for _, c := range r.wire.conns {
			c.kill()
		}
		const outage = 5 * time.Minute
		time.Sleep(outage)
		synctest.Wait()
		require.Less(t, dials.Load(), int64(8*outage/time.Second))
		require.Less(t, len(h.reports()), int(8*outage/time.Second))
		r.wire.onDial.Store(nil)
		// The first session after it may end for its silence: after many failed dials go-redis' pool, through which the
		// heartbeats go, tries only once a second.
		r.within(2*maxBackoff+bound, "a proof", h.proven)
		require.LessOrEqual(t, h.count("end"), 2)
	})
}

func TestAfterAnOutageALongBoundIsNotWaitedFor(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		h, _ := r.begun("a", lasting)
		refuse := func(context.Context) error { return errRefused }
		r.wire.onDial.Store(&refuse)
		for _, c := range r.wire.conns {
			c.kill()
		}
		r.bus.Kick()
		time.Sleep(time.Minute)
		r.wire.onDial.Store(nil)
		r.within(5*time.Second, "a proof", h.proven)
	})
}

func TestManyKicksAreFewHeartbeats(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		h, _ := r.begun("a", lasting)
		reached, gate := make(chan struct{}), make(chan struct{})
		var once sync.Once
		r.onCommand(func(_ *server.Peer, cmd string, _ []string) bool {
			if cmd == "EVALSHA" {
				once.Do(func() {
					close(reached)
					<-gate
				})
			}
			return false
		})
		n := len(h.reports())
		for range 1000 {
			r.bus.Kick()
		}
		<-reached
		for range 1000 {
			r.bus.Kick()
		}
		close(gate)
		synctest.Wait()
		require.Len(t, h.reports(), n+2, "the one that was on its way, and one that was sent after the last kick")
	})
}

// A member with a short bound joins while the bus waits for as long as one with a long bound allows.
func TestAShortBoundIsKeptBesideALongOne(t *testing.T) {
	t.Run("on a subscription that has gone silent", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
			r.begun("a", lasting)
			r.wire.subscription().mute.Store(true)
			h, _ := r.join("b", bound)
			r.within(3*maxInterval+bound, "a session", h.proven)
		})
	})
	t.Run("of the same channel, on a subscription that has gone silent", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
			r.begun("a", lasting)
			r.wire.subscription().mute.Store(true)
			h, _ := r.join("a", bound)
			require.Equal(t, "begin", h.story())
			r.within(3*maxInterval, "the end", func() bool { return h.count("end") == 1 })
			r.within(bound, "a session", h.proven)
		})
	})
	t.Run("while a heartbeat is not answered", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
			r.begun("a", lasting)
			r.wire.muteAll()
			r.wire.subscription().mute.Store(false)
			r.bus.Kick()
			synctest.Wait()
			h, _ := r.join("b", bound)
			r.within(3*maxInterval+bound, "a heartbeat", func() bool { return len(h.reports()) > 0 })
		})
	})
}

func TestABusThatNobodyUsesRests(t *testing.T) {
	t.Run("few heartbeats", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
			_, leave := r.begun("a", bound)
			leave()
			time.Sleep(bound)
			n := r.mini.CommandCount()
			time.Sleep(2 * time.Minute)
			require.InDelta(t, n, r.mini.CommandCount(), float64(6*2*time.Minute/maxInterval))
			h, _ := r.begun("b", bound)
			require.Equal(t, "begin prove", h.story())
		})
	})
	t.Run("no reconnections", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
			_, leave := r.begun("a", bound)
			leave()
			time.Sleep(10 * time.Minute)
			require.EqualValues(t, 1, r.bus.Sessions())
		})
	})
}

// Joining holds the bus' lock while it writes. A peer that has stopped reading must not stop the bus. On a pipe, which holds
// nothing that is not read; and not in a bubble, whose clock stands still while somebody waits for a lock.
func TestJoiningOnAConnectionThatDoesNotTakeAnyMore(t *testing.T) {
	t.Parallel()
	r := newRigOnPipes(t)
	a, _ := r.joined("a", lasting)
	gate := make(chan struct{})
	var subscribes atomic.Int64
	r.onCommand(func(_ *server.Peer, cmd string, _ []string) bool {
		if cmd == "SUBSCRIBE" && subscribes.Add(1) == 1 {
			<-gate // and reads nothing meanwhile, but for what it has read ahead
		}
		return false
	})
	var members []*recorder
	began := time.Now()
	for _, channel := range []string{"b", "c", "d", "e"} {
		h, _ := r.join(channel, lasting)
		members = append(members, h)
	}
	require.Less(t, time.Since(began), patience/2)
	eventually(t, "the end", func() bool { return a.count("end") == 1 })
	close(gate)
	eventually(t, "another session", func() bool {
		for _, h := range members {
			if !h.proven() {
				return false
			}
		}
		return a.proven()
	})
	require.EqualValues(t, 2, r.bus.Sessions())
}
