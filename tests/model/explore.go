package model

import (
	"fmt"
	"hash/maphash"
	"time"
)

// Result is what an exploration has found.
type Result struct {
	States   int
	Depth    int
	Time     time.Duration
	Complete bool // all states were visited
	// Violation says what is wrong in the last state of Trace, the shortest way to a violation; it is empty if there is none.
	Violation string
	Trace     []Step
}

// Explore visits the states of m breadth first, at most limit of them, and stops at the first violation.
//
// Of a visited state it keeps a hash of 64 bits, and the step and the state that led to it. Two states of one hash would hide
// one of them: among ten million states that happens once in some hundred thousand runs, and seeds differ between runs.
func (m *Model) Explore(limit int) Result {
	began := time.Now()
	e := explorer{m: m, seed: maphash.MakeSeed(), visited: newHashSet()}
	first := m.initial()
	e.add(first, 0, 0)
	r := Result{Complete: true}
	for len(e.next) > 0 && r.Violation == "" {
		e.level, e.next = e.next, e.level[:0]
		first := e.levelAt
		e.levelAt = len(e.from)
		r.Depth++
		for n := range e.level {
			if len(e.from) > limit {
				r.Complete = false
				break
			}
			if last, violation := e.expand(&e.level[n], first+n); violation != "" {
				r.Violation, r.Trace = violation, e.trace(first+n, last)
				break
			}
		}
		if !r.Complete {
			break
		}
	}
	r.States, r.Time = len(e.from), time.Since(began)
	return r
}

type explorer struct {
	m           *Model
	seed        maphash.Seed
	visited     *hashSet
	level, next []state
	levelAt     int // the number of the first state of next
	from        []origin
}

// origin is how a state was reached.
type origin struct {
	before uint32
	step   uint16 // its place in Model.steps
}

func (e *explorer) add(s state, before uint32, step uint16) {
	if !e.visited.add(maphash.Bytes(e.seed, s.bytes())) {
		return
	}
	e.from = append(e.from, origin{before: before, step: step})
	e.next = append(e.next, s)
}

// expand makes every step that is possible in s, the state with that number.
func (e *explorer) expand(s *state, number int) (Step, string) {
	for n, step := range e.m.steps {
		t := *s
		if !e.m.apply(&t, step) {
			continue
		}
		e.m.normalize(&t)
		e.m.check(&t)
		if v := e.m.violated; v != "" {
			e.m.violated = ""
			return step, v
		}
		e.add(t, uint32(number), uint16(n))
	}
	return Step{}, ""
}

func (e *explorer) trace(number int, last Step) []Step {
	steps := []Step{last}
	for number > 0 {
		o := e.from[number]
		steps = append(steps, e.m.steps[o.step])
		number = int(o.before)
	}
	for i, j := 0, len(steps)-1; i < j; i, j = i+1, j-1 {
		steps[i], steps[j] = steps[j], steps[i]
	}
	return steps
}

// hashSet is a set of hashes with open addressing.
type hashSet struct {
	slots []uint64
	n     int
}

func newHashSet() *hashSet { return &hashSet{slots: make([]uint64, 1<<16)} }

// add reports whether h is new.
func (h *hashSet) add(x uint64) bool {
	if x == 0 {
		x = 1
	}
	if 2*h.n >= len(h.slots) {
		h.grow()
	}
	if !h.put(x) {
		return false
	}
	h.n++
	return true
}

func (h *hashSet) put(x uint64) bool {
	mask := uint64(len(h.slots) - 1)
	for i := x & mask; ; i = (i + 1) & mask {
		switch h.slots[i] {
		case 0:
			h.slots[i] = x
			return true
		case x:
			return false
		}
	}
}

func (h *hashSet) grow() {
	old := h.slots
	h.slots = make([]uint64, 2*len(old))
	for _, x := range old {
		if x != 0 {
			h.put(x)
		}
	}
}

func (r Result) String() string {
	rate := float64(r.States) / max(r.Time.Seconds(), 1e-6)
	return fmt.Sprintf("%d states, depth %d, %.1f s (%.0f/s), complete: %v", r.States, r.Depth, r.Time.Seconds(), rate, r.Complete)
}
