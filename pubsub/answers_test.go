package pubsub

import (
	"errors"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/require"
)

// A demoted master answers on every connection and refuses to write: the subscription lives, and proves nothing.
func TestHeartbeatsThatAreRefusedProveNothing(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"demoted":  "READONLY You can't write against a read only replica.",
		"isolated": "NOREPLICAS Not enough good replicas to write.",
		"no right": "NOPERM this user has no permissions to run the 'publish' command",
		"loading":  "LOADING Redis is loading the dataset in memory",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			h, _ := r.joined("a", lasting)
			eventually(t, "a report", func() bool { return len(h.reports()) > 0 })
			r.onCommand(func(p *server.Peer, cmd string, _ []string) bool {
				if strings.HasPrefix(cmd, "EVAL") {
					p.WriteError(answer)
					return true
				}
				return false
			})
			refused := func() int {
				n := 0
				for _, b := range h.reports() {
					if b.Err != nil && strings.HasSuffix(b.Err.Error(), answer) {
						require.Equal(t, name == "no right", errors.Is(b.Err, ErrNoPermission))
						n++
					}
				}
				return n
			}
			eventually(t, "the first refusal", func() bool {
				r.bus.Kick()
				return refused() >= 1
			})
			// A heartbeat from before may still be on its way; it is before what is published now.
			r.publish("a", inv("mark"))
			eventually(t, "the mark", func() bool { return h.count("message") == 1 })
			proofs := h.count("prove")
			for i := range 5 {
				eventually(t, "refusals", func() bool {
					r.bus.Kick()
					return refused() >= i+2
				})
			}
			require.Equal(t, proofs, h.count("prove"))
			require.Equal(t, "begin inv(mark)", h.plot(), "the subscription lives")
			r.publish("a", inv("k"))
			eventually(t, "a message", func() bool { return h.count("message") == 2 })
			r.onCommand(nil)
			eventually(t, "a proof", func() bool {
				r.bus.Kick()
				return h.count("prove") > proofs
			})
			require.EqualValues(t, 1, r.bus.Sessions())
		})
	}
}

func TestAServerThatAnswersNothingButErrors(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	h, _ := r.joined("a", lasting)
	proofs := h.count("prove")
	r.mini.SetError("LOADING not yet")
	eventually(t, "an error", func() bool {
		r.bus.Kick()
		all := h.reports()
		return len(all) > 0 && all[len(all)-1].Err != nil
	})
	require.Equal(t, "begin prove", h.story())
	r.mini.SetError("")
	eventually(t, "a proof", func() bool {
		r.bus.Kick()
		return h.count("prove") > proofs
	})
}

// answerBeat answers a heartbeat for one topic with this time and this version.
func answerBeat(w *server.Writer, now, version func()) {
	w.WriteLen(7)
	now()
	w.WriteBulk("id")
	w.WriteInt(1)
	w.WriteBulk("run")
	w.WriteInt(0)
	version()
	w.WriteInt(-1)
}

func TestAHeartbeatWithAnAnswerOfAnotherKindIsAnError(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(w *server.Writer){
		"too short": func(w *server.Writer) { w.WriteLen(1); w.WriteInt(1) },
		"too long": func(w *server.Writer) {
			w.WriteLen(8)
			w.WriteInt(1)
			w.WriteBulk("id")
			w.WriteInt(1)
			w.WriteBulk("run")
			w.WriteInt(0)
			w.WriteBulk("x")
			w.WriteInt(-1)
			w.WriteBulk("y")
		},
		"no list":        func(w *server.Writer) { w.WriteBulk("x") },
		"time is text":   func(w *server.Writer) { answerBeat(w, func() { w.WriteBulk("1") }, func() { w.WriteBulk("x") }) },
		"no version":     func(w *server.Writer) { answerBeat(w, func() { w.WriteInt(1) }, w.WriteNull) },
		"version number": func(w *server.Writer) { answerBeat(w, func() { w.WriteInt(1) }, func() { w.WriteInt(1) }) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.onCommand(func(p *server.Peer, cmd string, _ []string) bool {
				if !strings.HasPrefix(cmd, "EVAL") {
					return false
				}
				p.Block(answer)
				return true
			})
			h, _ := r.join("a", lasting)
			eventually(t, "a report", func() bool { return len(h.reports()) > 0 })
			b := h.reports()[0]
			require.Error(t, b.Err)
			require.Empty(t, b.Version)
			require.Zero(t, b.RedisNow)
			require.Zero(t, h.count("prove"))
		})
	}
}

func TestEveryTopicIsToldItsOwnVersion(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	require.NoError(t, r.mini.Set("version-of-a", "00000000000000aa:+"))
	require.NoError(t, r.mini.Set("version-of-b", "00000000000000bb:+"))
	a, _ := r.joined("a", lasting)
	b, _ := r.joined("b", lasting)
	a2, _ := r.joined("a", lasting)
	for h, want := range map[*recorder]string{a: "00000000000000aa", b: "00000000000000bb", a2: "00000000000000aa"} {
		eventually(t, "a report", func() bool { return len(h.reports()) > 0 })
		for _, report := range h.reports() {
			require.NoError(t, report.Err)
			require.Equal(t, want, report.Version)
		}
	}
	require.NoError(t, r.mini.Set("version-of-a", "00000000000000ff:+"))
	eventually(t, "the new one", func() bool {
		r.bus.Kick()
		all := a.reports()
		return all[len(all)-1].Version == "00000000000000ff"
	})
}

func TestAVersionKeyThatCannotBeReadIsReplaced(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	require.NoError(t, r.mini.Set("version-of-a", "junk"))
	h, _ := r.joined("a", lasting)
	eventually(t, "a version", func() bool {
		r.bus.Kick()
		all := h.reports()
		return len(all) > 0 && len(all[len(all)-1].Version) == 16
	})
}
