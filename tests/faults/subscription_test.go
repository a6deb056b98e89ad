package faults

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/pubsub"
)

// listening is a writer, and a reader whose connections a proxy holds.
type listening struct {
	*judge
	proxy          *proxy
	writer, reader *cache
	admin          *redis.Client
	stop           func()
	unconfirmed    int // writes
}

const listenBound = 500 * time.Millisecond

var watched = []string{"w1", "w2", "w3"}

func newListening(t *testing.T, args ...string) *listening {
	t.Helper()
	srv, s := startRedis(t, args...), newSource(0)
	p := newProxy(t, srv.Addr())
	l := &listening{
		judge: newJudge(s, listenBound), proxy: p, admin: client(t, srv.Addr()),
		writer: ready(t, srv.Addr(), s, staleness(listenBound)), reader: ready(t, p.addr(), s, staleness(listenBound)),
	}
	l.stop = l.readers(2, l.reader, false, watched...)
	t.Cleanup(l.stop)
	return l
}

// writeFor writes the watched keys in turn, one every few milliseconds.
func (l *listening) writeFor(t *testing.T, d time.Duration) (writes int) {
	t.Helper()
	for began := time.Now(); time.Since(began) < d; time.Sleep(3 * time.Millisecond) {
		if confirmed, _ := l.write(t, l.writer, watched[writes%len(watched)]); !confirmed {
			l.unconfirmed++
		}
		writes++
	}
	return writes
}

// finish waits until the reader trusts L1 again and has the last versions, and passes judgement.
func (l *listening) finish(t *testing.T, what string) {
	t.Helper()
	healed := trusted(t, l.reader, l.writer)
	for _, key := range watched {
		eventually(t, "the last version", func() bool { return get(t, l.reader, key) == l.source.version(key) })
	}
	hits := l.reader.Stats().LocalHits
	eventually(t, "L1 is used", func() bool { return l.reader.Stats().LocalHits > hits+10 })
	l.stop()
	t.Logf("%s; %s; L1 trusted %v after; sessions %d", what, l.sentence(), round(healed), l.reader.Stats().Sessions)
	l.acquit(t)
}

// usesRedisAlone waits until the reader's heartbeats go well, which a busy machine may have delayed; without proof it must not
// trust L1.
func (l *listening) usesRedisAlone(t *testing.T) {
	t.Helper()
	eventually(t, "L2 is trusted", func() bool {
		h := l.reader.Health()
		require.False(t, h.LocalTrusted)
		return h.RemoteTrusted
	})
}

func TestASubscriptionKilledAgainAndAgain(t *testing.T) {
	l := newListening(t)
	kills, writes, began := 0, 0, time.Now()
	for ; kills < 15 || l.reader.Stats().Sessions <= 2; kills++ {
		require.Less(t, time.Since(began), patience, "it does not connect again")
		require.NoError(t, l.admin.ClientKillByFilter(soon(t), "TYPE", "pubsub").Err())
		writes += l.writeFor(t, 60*time.Millisecond)
	}
	l.finish(t, fmt.Sprintf("%d kills, %d writes", kills, writes))
}

// What the server sends on the subscription is lost from some moment on, and the connection stays open.
func TestAHalfOpenSubscription(t *testing.T) {
	l := newListening(t)
	l.proxy.set(rule{down: swallow}, bus)
	writes := l.writeFor(t, 2*listenBound)
	l.usesRedisAlone(t)
	l.proxy.heal()
	l.finish(t, fmt.Sprintf("%d writes while nothing came down", writes))
}

// The server reads the subscription no more: an instance that asks for nothing on it must not need it.
func TestASubscriptionThatIsDeafUpwards(t *testing.T) {
	l := newListening(t)
	l.proxy.set(rule{up: swallow}, bus)
	writes := l.writeFor(t, 2*listenBound)
	needless := l.reader.Health().LocalTrusted // unless the machine was too busy for the heartbeats, and it had to connect again
	l.proxy.heal()
	l.finish(t, fmt.Sprintf("%d writes while nothing went up, L1 trusted all the same: %v", writes, needless))
}

// The bus is out of reach and the data is not, in two ways.
func TestDataWithoutABus(t *testing.T) {
	for name, strike := range map[string]func(*proxy){
		"silent": func(p *proxy) { p.set(rule{up: swallow, down: swallow}, bus) },
		"refused": func(p *proxy) {
			p.set(rule{answer: func([]byte) *reply { return &reply{bytes: []byte("-NOPERM no channel\r\n")} }}, bus)
			p.cut(bus)
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newListening(t)
			strike(l.proxy)
			writes := l.writeFor(t, 2*listenBound)
			l.usesRedisAlone(t)
			hits := l.reader.Stats().RemoteHits
			eventually(t, "L2 is used", func() bool { l.writeFor(t, time.Millisecond); return l.reader.Stats().RemoteHits > hits })
			l.proxy.heal()
			l.finish(t, fmt.Sprintf("%d writes", writes))
		})
	}
}

// And the other way round: the subscription is the only connection that works, so heartbeats fail.
func TestABusWithoutData(t *testing.T) {
	l := newListening(t)
	l.proxy.set(rule{up: swallow}, control, data)
	writes := l.writeFor(t, 2*listenBound)
	eventually(t, "no heartbeat arrives", func() bool { h := l.reader.Health(); return !h.RemoteTrusted && h.RedisError != nil })
	l.proxy.heal()
	l.finish(t, fmt.Sprintf("%d writes", writes))
}

// A subscriber that does not keep up is cut off by the server at its output limit; what was on the way is lost.
func TestASubscriberThatIsTooSlow(t *testing.T) {
	l := newListening(t, "--client-output-buffer-limit", "pubsub", "64kb", "0", "0")
	before := l.reader.Stats().Sessions
	l.proxy.set(rule{down: stall}, bus)
	// Past what the kernel buffers for the server and the proxy.
	big := strings.Repeat("x", 8000)
	keys := make([]string, 60)
	for i := range keys {
		keys[i] = fmt.Sprint(i, big)
	}
	message := string(pubsub.Message{Op: pubsub.Invalidate, Sender: "flood", Keys: keys}.Encode())
	published, began := 0, time.Now()
	for ; ; published++ {
		receivers, err := l.admin.Publish(soon(t), channel, message).Result()
		require.NoError(t, err)
		if receivers == 1 { // the writer's is left
			break
		}
		require.Less(t, time.Since(began), patience, "the server does not mind")
	}
	killed := time.Since(began)
	writes := l.writeFor(t, 2*listenBound)
	require.False(t, l.reader.Health().LocalTrusted)
	l.proxy.heal()
	eventually(t, "a new session", func() bool { return l.reader.Stats().Sessions > before })
	l.finish(t, fmt.Sprintf("cut off after %d messages of %d kB in %v, %d writes", published, len(message)>>10, round(killed), writes))
}

// 100,000 invalidations of other keys, as fast as Redis takes them, and none of the watched ones late.
func TestAStormOfMessages(t *testing.T) {
	const storm, perPipe = 100_000, 1000
	l := newListening(t)
	done := make(chan time.Duration, 1)
	go func() {
		began := time.Now()
		for i := range storm / perPipe {
			_, err := l.admin.Pipelined(context.Background(), func(p redis.Pipeliner) error {
				for n := range perPipe {
					m := pubsub.Message{Op: pubsub.Invalidate, Sender: "storm", Keys: []string{fmt.Sprint("other:", i*perPipe+n)}}
					p.Publish(context.Background(), channel, m.Encode())
				}
				return nil
			})
			if err != nil {
				t.Errorf("Publish: %v", err)
			}
		}
		done <- time.Since(began)
	}()
	writes := 0
	var took time.Duration
	for took == 0 {
		writes += l.writeFor(t, 50*time.Millisecond)
		select {
		case took = <-done:
		default:
		}
	}
	eventually(t, "all of it is heard, or the subscription was lost", func() bool {
		now := l.reader.Stats()
		return now.Received >= storm || now.Sessions > 1
	})
	l.finish(t, fmt.Sprintf("%d messages in %v (%.0f/s), %d writes", storm, round(took), storm/took.Seconds(), writes))
}
