package pubsub

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
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

// model is a running connection without one: requests go to a server that confirms each in order, some time.
type model struct {
	*testing.T
	bus     *Bus
	s       *subscription
	busy    atomic.Int32
	sent    []request // taken by the server, not confirmed
	active  map[string]bool
	members map[string][]*modelMember
}

type modelMember struct {
	*recorder
	leave func()
}

func newModel(t *testing.T, channels ...string) *model {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	m := &model{T: t, bus: New(client, Options{}), active: map[string]bool{}, members: map[string][]*modelMember{}}
	t.Cleanup(m.bus.Close)
	m.bus.started = true // its goroutines are what the test does
	m.s = &subscription{bus: m.bus, ps: client.Subscribe(t.Context()), over: make(chan struct{}), wake: make(chan struct{}, 1)}
	t.Cleanup(m.s.close)
	m.bus.current = m.s
	for _, channel := range channels {
		m.members[channel] = nil
	}
	return m
}

// send is what the writer does: it takes what is there, and the server gets all of it.
func (m *model) send() {
	m.bus.mu.Lock()
	defer m.bus.mu.Unlock()
	m.sent = append(m.sent, m.s.requests...)
	m.s.requests = nil
}

// confirm makes the server run its next request, and the receiver hear of it.
func (m *model) confirm() {
	m.Helper()
	if len(m.sent) == 0 {
		return
	}
	r := m.sent[0]
	m.sent = m.sent[1:]
	m.active[r.channel] = !r.leave
	kind := "subscribe"
	if r.leave {
		kind = "unsubscribe"
	}
	require.NoError(m, m.s.apply(&redis.Subscription{Kind: kind, Channel: r.channel}))
	m.check()
}

// check is the invariant: whoever is in a session hears.
func (m *model) check() {
	m.Helper()
	for channel, members := range m.members {
		for _, member := range members {
			require.LessOrEqual(m, member.count("begin"), 1)
			if member.count("begin") == 1 {
				require.True(m, m.active[channel], "in a session, and the channel is not subscribed")
			}
		}
	}
}

func (m *model) join(channel string) {
	m.Helper()
	h := &recorder{t: m.T, busy: &m.busy}
	leave, err := m.bus.Join(topic(channel, lasting, h))
	require.NoError(m, err)
	m.members[channel] = append(m.members[channel], &modelMember{h, leave})
	m.check()
}

func (m *model) leave(channel string, i int) {
	members := m.members[channel]
	if len(members) == 0 {
		return
	}
	i %= len(members)
	members[i].leave()
	m.members[channel] = append(members[:i:i], members[i+1:]...)
}

// Confirmations come late, and in the order of the requests. However members come and go meanwhile, nobody is in a session
// whose channel Redis does not have, none is unexpected, and in the end all who have stayed are in one.
func TestConfirmationsAreTakenForWhatTheyConfirm(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 1))
		channels := []string{"a", "b"}
		m := newModel(t, channels...)
		for range 100 {
			channel := channels[r.IntN(len(channels))]
			switch r.IntN(6) {
			case 0, 1:
				m.join(channel)
			case 2, 3:
				m.leave(channel, r.IntN(10))
			case 4:
				m.send()
			case 5:
				m.confirm()
			}
		}
		for range 200 {
			m.send()
			m.confirm()
		}
		require.Empty(t, m.sent)
		for channel, members := range m.members {
			require.Equal(t, len(members) > 0, m.active[channel])
			for _, member := range members {
				require.Equal(t, 1, member.count("begin"))
			}
			m.bus.mu.Lock()
			require.Equal(t, len(members) > 0, m.bus.channels[channel] != nil)
			m.bus.mu.Unlock()
		}
	}
}

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

func TestWhatBelongsToNobodyIsNoMatter(t *testing.T) {
	t.Parallel()
	m := newModel(t, "a")
	m.join("a")
	m.send()
	m.confirm()
	require.NoError(t, m.s.apply(&redis.Message{Channel: "z", Payload: string(inv("k").Encode())}))
	require.NoError(t, m.s.apply(&redis.Message{Channel: "z", Payload: "junk"}))
	require.NoError(t, m.s.apply(&redis.Pong{}))
	require.Error(t, m.s.apply(nil))
	require.Error(t, m.s.apply("junk"))
	require.Equal(t, "begin", m.members["a"][0].story())
}
