package pubsub

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// event is what a Handler was told, but for reports of heartbeats.
type event struct {
	what string // begin, end, prove, message, unreadable
	at   int64
	m    Message
	err  error
}

// recorder is a Handler that remembers. Two calls at once on the handlers of one bus fail the test.
type recorder struct {
	t    *testing.T
	busy *atomic.Int32 // shared by the members of a bus

	mu     sync.Mutex
	events []event
	beats  []BeatReport
	// on, if set, is called with each event, under the bus' lock.
	on func(e event)
}

// alone is called first in each method, and what it returns when that is done.
func (r *recorder) alone(what string) func() {
	if r.busy.Add(1) != 1 {
		r.t.Errorf("two calls of handlers at once: %s", what)
	}
	return func() { r.busy.Add(-1) }
}

func (r *recorder) add(e event) {
	defer r.alone(e.what)()
	r.mu.Lock()
	r.events = append(r.events, e)
	on := r.on
	r.mu.Unlock()
	if on != nil {
		on(e)
	}
}

func (r *recorder) Begin()               { r.add(event{what: "begin"}) }
func (r *recorder) End(reason error)     { r.add(event{what: "end", err: reason}) }
func (r *recorder) Prove(at int64)       { r.add(event{what: "prove", at: at}) }
func (r *recorder) Message(m Message)    { r.add(event{what: "message", m: m}) }
func (r *recorder) Unreadable(err error) { r.add(event{what: "unreadable", err: err}) }

func (r *recorder) Beat(b BeatReport) {
	defer r.alone("beat")()
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.beats); n > 0 && b.Sent < r.beats[n-1].Sent {
		r.t.Errorf("heartbeats are reported in another order than they were sent in")
	}
	r.beats = append(r.beats, b)
}

func (r *recorder) all() []event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

func (r *recorder) reports() []BeatReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.beats)
}

func (r *recorder) of(what string) []event {
	return slices.DeleteFunc(r.all(), func(e event) bool { return e.what != what })
}

func (r *recorder) count(what string) int { return len(r.of(what)) }

// story returns what happened, in order, repeated proofs left out.
func (r *recorder) story() string {
	var words []string
	for _, e := range r.all() {
		word := e.what
		if e.what == "message" {
			word = string(e.m.Op) + "(" + strings.Join(e.m.Keys, " ") + ")"
		}
		if word != "prove" || len(words) == 0 || words[len(words)-1] != "prove" {
			words = append(words, word)
		}
	}
	return strings.Join(words, " ")
}

// plot is the story without proofs, for those that may come at any time.
func (r *recorder) plot() string {
	return strings.Join(slices.DeleteFunc(strings.Fields(r.story()), func(w string) bool { return w == "prove" }), " ")
}

// proven says whether the member has been told of a proof after its last begin.
func (r *recorder) proven() bool {
	all := r.all()
	for _, e := range slices.Backward(all) {
		switch e.what {
		case "prove":
			return true
		case "begin", "end":
			return false
		}
	}
	return false
}

// keys returns the keys of all invalidations that were heard.
func (r *recorder) keys() []string {
	var out []string
	for _, e := range r.of("message") {
		out = append(out, e.m.Keys...)
	}
	return out
}

// checkProofs requires that sessions begin and end in turn, and that no proof came outside one.
func (r *recorder) checkProofs() {
	r.t.Helper()
	in := false
	for _, e := range r.all() {
		switch e.what {
		case "begin":
			require.False(r.t, in, "a session begins in a session: %s", r.story())
			in = true
		case "end":
			require.True(r.t, in, "what had not begun ends: %s", r.story())
			in = false
		case "prove":
			require.True(r.t, in, "a proof outside a session: %s", r.story())
		}
	}
}
