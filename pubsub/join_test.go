package pubsub

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// A channel is joined and left in turn: some times before there is a connection, while it is being made, and after that,
// before Redis has confirmed anything. Whatever the numbers, it ends with what the last call asked for, on one connection.
func TestJoiningAndLeavingAtEveryStageOfAConnection(t *testing.T) {
	t.Parallel()
	const most = 4
	for before := range most {
		for during := range most {
			for after := range most {
				t.Run(fmt.Sprintf("%d before, %d while it is made, %d after", before, during, after), func(t *testing.T) {
					t.Parallel()
					r := newRig(t)
					dialling, dial := make(chan struct{}), make(chan struct{})
					onDial := stopOnce(dialling, dial)
					r.wire.onDial.Store(&onDial)
					writing, write := make(chan struct{}), make(chan struct{})
					stop := stopOnce(writing, write)
					onWrite := func(c *wireConn, _ []byte) {
						if c.subscribed.Load() {
							_ = stop(context.Background())
						}
					}
					r.wire.onWrite.Store(&onWrite)

					a, _ := r.join("a", lasting)
					var b *recorder
					leave := func() {}
					turn := func(times int) {
						for range times {
							if b == nil {
								b, leave = r.join("b", lasting)
								continue
							}
							leave()
							b = nil
						}
					}
					<-dialling // the list of channels is made before
					turn(before)
					close(dial)
					<-writing
					turn(during)
					letGo := r.wire.subscription().holdReads()
					close(write)
					eventually(t, "connected", func() bool { return r.bus.Sessions() == 1 })
					turn(after)
					letGo()

					eventually(t, "a proof of a", a.proven)
					if b != nil {
						eventually(t, "a proof of b", b.proven)
						require.Equal(t, "begin prove", b.story())
						r.publish("b", inv("k"))
						eventually(t, "a message", func() bool { return b.count("message") == 1 })
					} else {
						eventually(t, "b forgotten", func() bool {
							r.bus.mu.Lock()
							defer r.bus.mu.Unlock()
							return len(r.bus.channels) == 1
						})
						require.Zero(t, r.mini.PubSubNumSub("b")["b"])
					}
					require.Equal(t, "begin prove", a.story())
					require.EqualValues(t, 1, r.bus.Sessions())
				})
			}
		}
	}
}

// stopOnce returns a function that, the first time, says that it was reached and waits.
func stopOnce(reached chan<- struct{}, gate <-chan struct{}) func(context.Context) error {
	var once sync.Once
	return func(context.Context) error {
		once.Do(func() {
			close(reached)
			<-gate
		})
		return nil
	}
}
