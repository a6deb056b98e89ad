package pubsub

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"
)

// strange is a server that gives everybody the same answer, whatever they say.
func strange(t *testing.T, answer string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer func() { _ = conn.Close() }()
				in := bufio.NewReader(conn)
				for {
					if _, err := in.ReadString('\n'); err != nil {
						return
					}
					if _, err := io.WriteString(conn, answer); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

// Whatever is behind the address, the process lives on, and the bus takes the server for what it is once it is there.
func TestASomethingThatIsNoRedis(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"HTTP":            "HTTP/1.1 400 Bad Request\r\n\r\n",
		"zeros":           "\x00\x00\x00\x00",
		"empty lines":     "\r\n",
		"OK":              "+OK\r\n",
		"error":           "-ERR no\r\n",
		"nil":             "_\r\n",
		"null bulk":       "$-1\r\n",
		"null list":       "*-1\r\n",
		"empty list":      "*0\r\n",
		"number":          ":1\r\n",
		"map":             "%1\r\n$1\r\na\r\n$1\r\nb\r\n",
		"map, odd":        "%1\r\n$1\r\na\r\n",
		"map in a map":    "%1\r\n%0\r\n%0\r\n",
		"list as a key":   "%1\r\n*1\r\n:1\r\n:1\r\n",
		"push":            ">1\r\n$1\r\na\r\n",
		"push, empty":     ">0\r\n",
		"push of numbers": ">3\r\n:1\r\n:2\r\n:3\r\n",
		"message":         ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n",
		"length too long": "$99999999999999999999\r\n",
		"huge":            "$536870912\r\nx",
		"huge list":       "*2147483647\r\n",
		"double":          ",nan\r\n",
		"big number":      "(12345678901234567890123456789\r\n",
		"verbatim":        "=3\r\nabc\r\n",
		"attribute":       "|1\r\n$1\r\na\r\n$1\r\nb\r\n",
		"bool":            "#t\r\n",
		"set":             "~1\r\n*0\r\n",
		"goodbye":         "-ERR max number of clients reached\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := strange(t, answer)
			var elsewhere atomic.Bool
			elsewhere.Store(true)
			r := newRigAt(t, "127.0.0.1:1", &wire{})
			answering := miniredis.RunT(t)
			realAddr := answering.Addr() // which it has no more when it is closed
			r.watch(answering)
			r.wire.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
				if elsewhere.Load() {
					return tcp(ctx, network, addr)
				}
				return tcp(ctx, network, realAddr)
			}
			h, _ := r.join("a", 300*time.Millisecond) // a short bound, because after some of the answers the rest is waited for
			eventually(t, "failed heartbeats", func() bool {
				r.bus.Kick()
				return len(h.reports()) > 3
			})
			for _, b := range h.reports() {
				require.Error(t, b.Err)
			}
			require.Zero(t, h.count("prove"))
			elsewhere.Store(false)
			eventually(t, "a proof", h.proven)
			h.checkProofs()
		})
	}
}

// A wait of Close that go-redis gives no means to cut short: it is bounded.
func TestCloseWhileRedisDoesNotGreet(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.wire.muteAll()
		on := func(c *wireConn, _ []byte) { c.mute.Store(true) }
		r.wire.onWrite.Store(&on)
		r.join("a", lasting)
		time.Sleep(time.Minute)
		began := time.Now()
		r.bus.Close()
		require.LessOrEqual(t, time.Since(began), 3*maxInterval)
	})
}

// An attempt that has begun when nobody was left any more is not made with all the time of a bus at rest.
func TestCloseAfterTheLastHasLeftWhileRedisDoesNotGreet(t *testing.T) {
	for i := range 12 { // at any time of an attempt
		inBubble(t, func(t *testing.T, r *rig) {
			r.wire.muteAll()
			on := func(c *wireConn, _ []byte) { c.mute.Store(true) }
			r.wire.onWrite.Store(&on)
			_, leave := r.join("a", bound)
			time.Sleep(time.Minute)
			leave()
			time.Sleep(time.Minute + time.Duration(i)*500*time.Millisecond)
			began := time.Now()
			r.bus.Close()
			require.LessOrEqual(t, time.Since(began), allowance(maxInterval), "of a heartbeat, which here nobody cuts short")
		})
	}
}

// The Dialer is the user's.
func TestADialerThatPanics(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var panics atomic.Bool
	panics.Store(true)
	on := func(context.Context) error {
		if panics.Load() {
			panic("not today")
		}
		return nil
	}
	r.wire.onDial.Store(&on)
	h, _ := r.join("a", lasting)
	eventually(t, "failed heartbeats", func() bool {
		r.bus.Kick()
		return len(h.reports()) > 3
	})
	panics.Store(false)
	eventually(t, "a proof", h.proven)
}

// So are its connections, and what they do while the subscription is made ends the session as later.
func TestAConnectionThatPanicsWhileItSubscribes(t *testing.T) {
	t.Parallel()
	const times = 3
	r := newRig(t)
	var panics atomic.Int64
	on := func(_ *wireConn, b []byte) {
		if bytes.Contains(b, []byte("\r\nsubscribe\r\n")) && panics.Add(1) <= times {
			panic("not today")
		}
	}
	r.wire.onWrite.Store(&on)
	r.joined("a", lasting)
	require.EqualValues(t, times+1, panics.Load())
	eventually(t, "the connections that panicked closed", func() bool {
		closed := 0
		for _, c := range r.wire.subscriptions() {
			select {
			case <-c.closed:
				closed++
			default:
			}
		}
		return closed == times
	})
}
