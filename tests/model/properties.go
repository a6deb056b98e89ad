package model

import "fmt"

// need is the oldest version that a Get which starts on instance i now may return.
//
// C2: what has returned on this instance. After ErrPending, too: the local copy is gone and L2 is not asked. C3: what
// returned nil on any instance, more than MaxStaleness ago.
func (m *Model) need(s *state, i int) version {
	need := version(0)
	for w := range m.Writes {
		x := &s.write[w]
		own := int(m.Writes[w].By) == i && x.orphan == 0 && (x.phase == returned || x.phase == unsettled)
		bound := x.phase == returned && x.age > m.MaxStaleness && x.excused == 0
		if own || bound {
			need = m.versionOf(w)
		}
	}
	return need
}

// judge notes a value that a reader on instance i must not get. What is excused by now is not asked for any more.
func (m *Model) judge(s *state, i int, v, need version, what string) {
	for u := v + 1; u <= need; u++ {
		if m.outrun(s, v, u) {
			continue
		}
		x := &s.write[u-1]
		own := int(m.Writes[u-1].By) == i && x.orphan == 0
		if x.excused == 0 || own {
			m.violated = fmt.Sprintf("%s v%d to a reader of v%d", what, v, need)
			return
		}
	}
}

// forgive is for a write that counts anew: readers who came before ask for what they would ask for now.
func (m *Model) forgive(s *state) {
	for i := range m.Instances {
		need := m.need(s, i)
		for j := range s.inst[i].flight {
			f := &s.inst[i].flight[j]
			f.need = min(f.need, need)
		}
		if i == m.Instances-1 {
			s.hit.need = min(s.hit.need, need)
		}
	}
}

// outrun says that v is the value of a Set that Redis ran after u, a write of another instance, had begun. It counts as the newest
// until the Set is settled, and for MaxStaleness where it was read until then. Its own writer knows of the Set.
func (m *Model) outrun(s *state, v, u version) bool {
	return v > 0 && s.write[v-1].outrun != 0 && m.Writes[v-1].By != m.Writes[u-1].By
}

// check looks for what must not be in any state: a hit that is too old (C2, C3), and what L2 must not hold (C4).
func (m *Model) check(s *state) {
	for i := range m.Instances {
		in := &s.inst[i]
		if !m.serves(in) {
			continue
		}
		m.count(LocalHit)
		m.judge(s, i, in.held, m.need(s, i), "L1 of "+instanceName(uint8(i))+" serves")
	}
	if d := &s.redis; d.usable() && d.val < d.done && !m.late(s, d.val, d.done) {
		m.violated = fmt.Sprintf("L2 holds v%d after the invalidation of v%d", d.val, d.done)
	}
}

// late says that L2 may hold v after the invalidation of u: it is of a Set that is not settled, and u is of another instance, or
// has not returned nil.
func (m *Model) late(s *state, v, u version) bool {
	return v > 0 && s.write[v-1].outrun == outrunNow && (m.outrun(s, v, u) || s.write[u-1].phase != returned)
}

// situation is something that a run must have come to, or it proves nothing.
type situation uint8

// The situations; situationNames says what they are.
const (
	Filled situation = iota
	Refused
	Stored
	LocalHit
	SlowHit
	RemoteHit
	Joined
	Waited
	Renewed
	TakenOver
	LoadedAlone
	Bypassed
	GraceKept
	Acknowledged
	Repeated
	Replayed
	Heard
	Proved
	Reconnected
	StrayRan
	Outrun
	Late
	FailedOver
	LostWrite
	Excused
	EpochKept
	EpochRenewed
	situations
)

var situationNames = [situations]string{
	"filled", "fill refused", "stored in L1", "L1 hit", "slow hit", "L2 hit", "joined", "waited for a lease", "lease renewed",
	"lease taken over", "loaded alone", "pending key bypassed L2", "grace kept L2 shut", "write acknowledged",
	"invalidation repeated", "journal replayed", "message heard", "session proved", "reconnected", "stray request ran",
	"Set outrun by a later write", "write pending for an earlier Set", "failover", "failover lost a write", "lost write excused", "epoch kept", "epoch renewed",
}

func (m *Model) count(x situation) {
	if m.reached != nil {
		m.reached[x]++
	}
}
