package pubsub

import (
	"context"
	_ "embed" // the scripts
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/internal/script"
)

var (
	//go:embed scripts/ask.lua
	askSource string
	askScript = script.New(askSource)
	//go:embed scripts/mark.lua
	markSource string
	markScript = script.New(markSource)
)

const (
	// settleMargin is added to bounds: clocks of two machines do not run quite alike, and Redis' time has milliseconds.
	settleMargin = 2 * time.Millisecond
	// latePart is the part of a Bound after which those who have not acknowledged are marked. Early, so that one who has crashed
	// holds up further calls for little longer than this one; to one who lives it is a heartbeat that registers it again.
	latePart = 8
	// maxMarks is how many instances one script marks.
	maxMarks = 500
)

// questions are those of this instance that wait for acknowledgements, by their tokens. The token cannot be guessed, so nobody
// acknowledges who has not heard it. Its methods may be called concurrently.
type questions struct {
	mu   sync.Mutex // protects what follows
	open map[string]*question
}

type question struct {
	token string
	acked map[string]struct{} // protected by the questions' lock
	news  chan struct{}       // has room for one: somebody has acknowledged
}

func (q *questions) begin() *question {
	one := &question{token: newID(16), acked: make(map[string]struct{}), news: make(chan struct{}, 1)}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.open == nil {
		q.open = make(map[string]*question)
	}
	q.open[one.token] = one
	return one
}

func (q *questions) end(one *question) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.open, one.token)
}

func (q *questions) acknowledged(token, id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	one := q.open[token]
	if one == nil {
		return
	}
	one.acked[id] = struct{}{}
	select {
	case one.news <- struct{}{}:
	default:
	}
}

// all reports whether everybody has acknowledged.
func (q *questions) all(one *question, a answer) bool {
	q.mu.Lock()
	n := len(one.acked)
	q.mu.Unlock()
	return a.strangers <= 0 && n >= len(a.instances) && len(q.missing(one, a)) == 0
}

// missing returns those who are registered and have not acknowledged.
func (q *questions) missing(one *question, a answer) []registered {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []registered
	for _, r := range a.instances {
		if _, ok := one.acked[r.id]; !ok {
			out = append(out, r)
		}
	}
	return out
}

// registered is an instance with the word that it registered with.
type registered struct{ id, word string }

// answer is what ask.lua has found.
type answer struct {
	strangers int64 // how many have heard the question who are not in the registry, and so do not acknowledge
	instances []registered
	rest      int64 // by mono: when nobody else has a proof that counts
}

// forum is where the instances that hear a topic acknowledge.
type forum struct {
	*ledger
	client    redis.UniversalClient // nil if no server is known
	questions *questions
	life      context.Context //nolint:containedctx // the bus', or a part of it
	interval  func() time.Duration
	apart     func(f func()) // runs f in the background, unless the bus is closed
}

func (b *Bus) forum() forum {
	return forum{
		ledger: &b.ledger, client: b.client, questions: &b.questions, life: b.ctx, interval: b.interval, apart: b.apart,
	}
}

// apart runs f in the background, unless the bus is closed. It ends with the bus.
func (b *Bus) apart(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.done.Go(f)
	}
}

// Settle returns nil when what was published on a topic's channel before the call has been applied by every instance that
// listens to it, or can have, in the words of Topic, no proof any more: when all have acknowledged, or after t.Bound. It
// returns ctx's error, or ErrClosed, if that comes first. t is as it was given to Join on this bus; without a Registry it
// waits for the Bound. It waits for Redis for timeout at most.
//
// Who counts: see the package's documentation.
func (b *Bus) Settle(ctx context.Context, t Topic, timeout time.Duration) error {
	return b.forum().settle(ctx, t, timeout)
}

func (f forum) settle(ctx context.Context, t Topic, timeout time.Duration) error {
	bound := time.NewTimer(t.Bound + settleMargin)
	defer bound.Stop()
	late := time.NewTimer(t.Bound / latePart)
	defer late.Stop()
	q := f.questions.begin()
	defer f.questions.end(q)
	a, asked := f.ask(ctx, t, q.token, min(timeout, t.Bound))
	var rest <-chan time.Time // once all have acknowledged
	for {
		if rest == nil && asked && f.questions.all(q, a) {
			left := time.Duration(a.rest - mono.Now())
			if left <= 0 {
				return nil
			}
			timer := time.NewTimer(left)
			defer timer.Stop()
			rest = timer.C
		}
		select {
		case <-q.news:
		case <-rest:
			return nil
		case <-late.C:
			f.mark(t.Registry, f.questions.missing(q, a))
		case <-bound.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-f.life.Done():
			return ErrClosed
		}
	}
}

// ask runs ask.lua; false means that it cannot be said who has to acknowledge.
func (f forum) ask(ctx context.Context, t Topic, token string, timeout time.Duration) (answer, bool) {
	own, server, ok := f.registers.current(t.Registry)
	if !ok || f.client == nil {
		return answer{}, false
	}
	if server != "" {
		server = sameServer(server)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	raw, err := f.scripts.ask.Run(ctx, f.client, []string{f.probe, t.Registry},
		t.Channel, Message{Op: Ask, Sender: f.id, Token: token}.Encode(), f.id, own.word, server, t.Bound.Milliseconds(),
		f.prefix, f.suffix).Slice()
	if err != nil || len(raw) == 0 {
		return answer{}, false
	}
	a, err := parseAnswer(raw)
	if err != nil {
		return answer{}, false
	}
	// Who was registered before this instance knows of the registry may have been lost from it, and lives on its last proof.
	rest := own.since + int64(t.Bound)
	if a.rest >= 0 {
		rest = max(rest, mono.Now()+a.rest*int64(time.Millisecond))
	}
	a.rest = rest + int64(settleMargin)
	return a, true
}

func parseAnswer(raw []any) (answer, error) {
	var a answer
	var okStrangers, okRest bool
	if len(raw)%2 == 0 {
		a.strangers, okStrangers = raw[0].(int64)
		a.rest, okRest = raw[1].(int64)
	}
	if !okStrangers || !okRest {
		return answer{}, fmt.Errorf("ask.lua answered %d values, %T first", len(raw), raw[0])
	}
	for i := 2; i < len(raw); i += 2 {
		id, okID := raw[i].(string)
		word, okWord := raw[i+1].(string)
		if !okID || !okWord {
			return answer{}, fmt.Errorf("ask.lua answered %T and %T for an instance", raw[i], raw[i+1])
		}
		a.instances = append(a.instances, registered{id, word})
	}
	return a, nil
}

// mark has those who did not acknowledge count as gone until their next heartbeat, in the background.
//
// It must say when, and not just take them out of the registry:
//
//  1. X has proof at time p, and Redis gives up its subscription, which X does not hear of;
//  2. Settle waits for X in vain, and X is taken out. Its next heartbeat would register it again, but before that
//  3. something is invalidated, and somebody calls Settle, who does not find X in the registry;
//  4. X serves what it holds until p + Bound.
//
// With the time of the mark, which is after p, that call waits until it is a Bound old.
func (f forum) mark(registry string, missing []registered) {
	if len(missing) == 0 {
		return
	}
	f.apart(func() {
		for len(missing) > 0 {
			n := min(len(missing), maxMarks)
			args := make([]any, 0, 2*n)
			for _, r := range missing[:n] {
				args = append(args, r.id, r.word)
			}
			missing = missing[n:]
			ctx, cancel := context.WithTimeout(f.life, allowance(f.interval()))
			err := f.scripts.mark.Run(ctx, f.client, []string{f.probe, registry}, args...).Err()
			cancel()
			if err != nil {
				return // the next one who waits for them does it
			}
		}
	})
}
