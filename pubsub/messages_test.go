package pubsub

import (
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
	<-r.bus.beating
	r.onCommand(func(p *server.Peer, cmd string, _ []string) bool { // from here on no heartbeat succeeds
		if strings.HasPrefix(cmd, "EVAL") {
			p.WriteError("READONLY no")
			return true
		}
		return false
	})
	r.bus.beating <- struct{}{}
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
