package pubsub

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

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
