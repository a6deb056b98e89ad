package pubsub

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Everything at once. Each session's end has one cause, which the test has made; and afterwards all is well.
func TestChaos(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stop := make(chan struct{})
	running := func() bool {
		select {
		case <-stop:
			return false
		default:
			return true
		}
	}
	var wg sync.WaitGroup
	stayed, _ := r.joined("c0", lasting)
	for i := range 3 {
		wg.Go(func() {
			for n := i; running(); n++ {
				h := r.recorder()
				leave, err := r.bus.Join(topic(fmt.Sprint("c", n%4), lasting, h))
				if err != nil {
					t.Error(err)
					return
				}
				if n%3 == 0 {
					time.Sleep(time.Millisecond)
				}
				leave()
				heard := len(h.all()) + len(h.reports())
				time.Sleep(100 * time.Microsecond)
				if now := len(h.all()) + len(h.reports()); now != heard {
					t.Errorf("heard after leaving: %s", h.story())
				}
			}
		})
	}
	kills := 0
	for range 8 {
		eventually(t, "a proof", stayed.proven)
		ends := stayed.count("end")
		r.wire.subscription().kill()
		kills++
		eventually(t, "the end", func() bool { return stayed.count("end") > ends })
	}
	eventually(t, "a proof", stayed.proven)
	close(stop)
	wg.Wait()
	require.EqualValues(t, kills+1, r.bus.Sessions())
	require.Equal(t, kills, stayed.count("end"))
	for _, e := range stayed.of("end") {
		require.NotContains(t, e.err.Error(), "unexpected")
		require.NotErrorIs(t, e.err, errSilence)
	}
	stayed.checkProofs()
	for i := range 4 {
		channel := fmt.Sprint("c", i)
		h, _ := r.joined(channel, lasting)
		r.publish(channel, inv("k"))
		eventually(t, "a message", func() bool { return h.count("message") == 1 })
	}
}

func TestCloseInTheMiddleOfEverything(t *testing.T) {
	t.Parallel()
	for i := range 30 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			var wg sync.WaitGroup
			var members sync.Map
			for j := range 3 {
				wg.Go(func() {
					for n := range 50 {
						h := r.recorder()
						leave, err := r.bus.Join(topic(fmt.Sprint("c", (j+n)%3), lasting, h))
						if errors.Is(err, ErrClosed) {
							return
						}
						if n%2 == 0 {
							leave()
						} else {
							members.Store(h, true)
						}
					}
				})
			}
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 200 * time.Microsecond)
				began := time.Now()
				r.bus.Close()
				if took := time.Since(began); took > patience/2 {
					t.Errorf("Close took %v", took)
				}
			})
			wg.Wait()
			members.Range(func(h, _ any) bool {
				m := h.(*recorder)
				require.Equal(t, m.count("begin"), m.count("end"), m.story())
				return true
			})
		})
	}
}
