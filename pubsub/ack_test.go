package pubsub

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/require"
)

// The members have applied what was published before they are asked.
func TestAnAcknowledgementFollowsWhatWasPublishedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := settlers(t, 2)
		asker, slow := all[0], all[1]
		gate := make(chan struct{})
		letGo := sync.OnceFunc(func() { close(gate) })
		defer letGo()
		slow.mu.Lock()
		slow.on = func(e event) {
			if e.what == "message" {
				<-gate
			}
		}
		slow.mu.Unlock()
		asker.publish("a", inv("k"))
		settled := asker.settleAsync()
		synctest.Wait()
		require.Empty(t, settled)
		letGo()
		require.Zero(t, <-settled)
		require.Equal(t, []string{"k"}, slow.keys())
	})
}

// A flood of questions neither stops the receiver nor grows without bound.
func TestAFloodOfQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := settlers(t, 1)[0]
		gate := make(chan struct{})
		s.onCommand(func(_ *server.Peer, cmd string, _ []string) bool {
			if cmd == "PUBLISH" {
				<-gate
			}
			return false
		})
		ask := func(token string) {
			s.publish("a", Message{Op: Ask, Sender: "0123456789abcdef", Token: token})
		}
		ask("first")
		synctest.Wait() // who sends is at the gate, and takes no more
		for i := range 10 * maxAcks {
			ask(fmt.Sprint(i))
		}
		s.publish("a", inv("k"))
		synctest.Wait()
		require.Equal(t, []string{"k"}, s.keys())
		require.Len(t, s.bus.acks, maxAcks)
		close(gate)
		synctest.Wait()
		require.Empty(t, s.bus.acks)
	})
}

// Nobody is acknowledged by who has not heard the question.
func TestAcknowledgementsOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := settlers(t, 2)
		asker, deaf := all[0], all[1]
		deaf.wire.subscription().vanish()
		for _, token := range []string{"", "x", "0123456789abcdef0123456789abcdef"} {
			asker.bus.questions.acknowledged(token, deaf.bus.ID())
			_ = asker.mini.Publish(asker.bus.Inbox(), string(Message{Op: Ack, Sender: deaf.bus.ID(), Token: token}.Encode()))
		}
		require.Equal(t, whole, asker.settle())
	})
}
