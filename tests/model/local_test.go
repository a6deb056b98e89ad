package model

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/mono"
	"github.com/tandemcache/tandem/local"
)

// sessionChange is what happens to a session after a ticket was taken.
type sessionChange uint8

const (
	noChange sessionChange = iota
	flushed
	ended
	began
	endedAndBegan
	sessionChanges
)

// TestTheRuleOfAHit takes a ticket in local.Store of every age, lets everything happen to it that the model knows, and compares
// what the store and the model say: may it be stored, may it be served, may a flight under it be joined?
func TestTheRuleOfAHit(t *testing.T) {
	t.Parallel()
	const bound = 2
	m := New(Config{Instances: 1, Readers: "A", Flights: 1, MaxStaleness: bound}, nil)
	cases := 0
	for age := range m.never() + 1 {
		for proof := range m.never() + 2 { // the last: there is none
			for _, moved := range []bool{false, true} {
				for change := range sessionChanges {
					cases++
					synctest.Test(t, func(t *testing.T) { compareHit(t, m, age, proof, moved, change) })
				}
			}
		}
	}
	t.Logf("%d cases", cases)
}

func compareHit(t *testing.T, m *Model, age, proof uint8, moved bool, change sessionChange) {
	t.Helper()
	const key, tick = "k", time.Second
	store, err := local.New(local.Options[string]{Bytes: 4 << 20, MaxStaleness: time.Duration(m.MaxStaleness) * tick})
	require.NoError(t, err)
	defer store.Close()
	store.Begin(0)

	// The same in the model: the entry that was stored at once, and a flight that has yet to store.
	s := m.initial()
	in := &s.inst[0]
	in.link, in.proof, in.held = alive, m.never(), none

	const early = key + " stored at once"
	var late, soon local.Ticket
	for left := int(m.never()); left >= 0; left-- {
		if left == int(age) {
			late, soon = store.Ticket(0, key), store.Ticket(0, early)
			require.True(t, store.Put(early, "v", soon, time.Hour))
			in.held, in.heldAge = 0, 0
			in.flight[0] = flight{phase: arrived, keep: 1}
		}
		if left == int(proof) {
			store.Prove(0, mono.Now())
			in.proof = 0
		}
		if left > 0 {
			time.Sleep(tick)
			m.ageInstance(in)
		}
	}
	if moved {
		store.Evict(key)
		store.Evict(early)
		m.evict(&s, 0)
	}
	change.make(store)
	change.inModel(m, &s)

	f := &in.flight[0]
	what := []any{"age %d, proof %d, moved %v, change %d", age, proof, moved, change}
	require.Equal(t, m.mayStore(in, f), store.Good(key, late), what...)
	require.Equal(t, m.serves(in), store.Get(early) != nil, what...)
	// Of evictions the flight itself is told: see flights.detach.
	unmoved := *f
	unmoved.moved = 0
	require.Equal(t, m.joinable(in, &unmoved), store.Live(late), what...)
	// Storing late is allowed under the same rule, and what is stored is served at once.
	may := m.mayStore(in, f)
	require.Equal(t, may, store.Put(key, "v", late, time.Hour), what...)
	require.Equal(t, may, store.Get(key) != nil, what...)
}

func (c sessionChange) make(store *local.Store[string]) {
	switch c {
	case flushed:
		store.Flush(0)
	case ended:
		store.End(0)
	case began:
		store.Begin(0)
	case endedAndBegan:
		store.End(0)
		store.Begin(0)
	default:
	}
}

func (c sessionChange) inModel(m *Model, s *state) {
	switch c {
	case flushed:
		m.flush(s, 0)
	case ended:
		m.endSession(s, 0)
	case began:
		m.connect(s, 0)
	case endedAndBegan:
		m.endSession(s, 0)
		m.connect(s, 0)
	default:
	}
}
