package pubsub

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCloseIsPrompt(t *testing.T) {
	// orderly is how tiered.Bus closes.
	orderly := func(r *rig) {
		r.bus.Stop()
		_ = r.client.Close()
		r.bus.Close()
	}
	for name, closing := range map[string]func(r *rig){
		"Close":                             func(r *rig) { r.bus.Close() },
		"Stop, then the client, then Close": orderly,
	} {
		at := func(r *rig) {
			r.Helper()
			began := time.Now()
			closing(r)
			require.LessOrEqual(r, time.Since(began), 100*time.Millisecond)
			synctest.Wait()
			require.LessOrEqual(r, time.Since(began), 100*time.Millisecond)
		}
		t.Run(name, func(t *testing.T) {
			t.Run("in a session", func(t *testing.T) {
				inBubble(t, func(t *testing.T, r *rig) {
					h, _ := r.begun("a", bound)
					at(r)
					require.ErrorIs(t, h.of("end")[0].err, ErrClosed)
				})
			})
			t.Run("on a silent subscription", func(t *testing.T) {
				inBubble(t, func(t *testing.T, r *rig) {
					h, _ := r.begun("a", lasting)
					r.wire.subscription().mute.Store(true)
					at(r)
					require.ErrorIs(t, h.of("end")[0].err, ErrClosed)
				})
			})
			t.Run("between two attempts", func(t *testing.T) {
				inBubble(t, func(t *testing.T, r *rig) {
					refuse := func(context.Context) error { return errRefused }
					r.wire.onDial.Store(&refuse)
					r.join("a", lasting)
					time.Sleep(10 * time.Second)
					at(r)
				})
			})
			t.Run("while dialling", func(t *testing.T) {
				inBubble(t, func(t *testing.T, r *rig) {
					hang := func(ctx context.Context) error {
						<-ctx.Done()
						return ctx.Err()
					}
					r.wire.onDial.Store(&hang)
					r.join("a", lasting)
					synctest.Wait()
					began := time.Now()
					closing(r)
					require.LessOrEqual(t, time.Since(began), 100*time.Millisecond)
				})
			})
			t.Run("as the connection is made", func(t *testing.T) {
				inBubble(t, func(t *testing.T, r *rig) {
					var once sync.Once
					writing, gate := make(chan struct{}), make(chan struct{})
					on := func(c *wireConn, _ []byte) {
						if c.subscribed.Load() {
							once.Do(func() {
								close(writing)
								<-gate
							})
						}
					}
					r.wire.onWrite.Store(&on)
					r.join("a", bound)
					<-writing
					r.bus.Stop()
					close(gate)
					// Other instances go on publishing.
					stop := make(chan struct{})
					var publisher sync.WaitGroup
					publisher.Go(func() {
						for range 100 {
							select {
							case <-stop:
								return
							case <-time.After(100 * time.Millisecond):
								r.publish("a", inv("k"))
							}
						}
						r.wire.subscription().kill() // this test has to end
					})
					began := time.Now()
					r.bus.Close()
					took := time.Since(began)
					close(stop)
					publisher.Wait()
					require.LessOrEqual(t, took, 100*time.Millisecond)
				})
			})
		})
	}
}

// A heartbeat on its way is waited for until its deadline, unless the client is closed, as it says.
func TestCloseWhileAHeartbeatIsNotAnswered(t *testing.T) {
	start := func(r *rig, bound time.Duration) {
		r.Helper()
		r.begun("a", bound)
		r.wire.muteAll()
		r.bus.Kick()
		synctest.Wait()
	}
	t.Run("waits for its deadline", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
			start(r, bound)
			began := time.Now()
			r.bus.Close()
			require.LessOrEqual(t, time.Since(began), allowed)
		})
	})
	t.Run("ends it by closing the client", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
			start(r, lasting)
			began := time.Now()
			r.bus.Stop()
			require.NoError(t, r.client.Close())
			r.bus.Close()
			require.Zero(t, time.Since(began))
		})
	})
}
