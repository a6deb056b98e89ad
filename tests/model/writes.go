package model

// The write path: tiered/write.go, pending.go and retry.go.

func (m *Model) writeStep(s *state, a Action, w int) bool {
	x := &s.write[w]
	switch a {
	case Begin:
		return x.phase == notBegun && m.begin(s, w)
	case Execute:
		return x.phase == underway && m.execute(s, w)
	case Return:
		return x.phase == executed && m.returns(s, w)
	case WriteFails:
		return x.phase == underway && m.trip(s) && m.fails(s, w)
	case WriteUnheard:
		return x.phase == executed && m.trip(s) && m.fails(s, w)
	case WriteStrays:
		return x.phase == underway && m.writeStrays(s, w)
	default:
		panic("model: not a write's step")
	}
}

// begin commits to the source, and evicts for the first time.
func (m *Model) begin(s *state, w int) bool {
	if w > 0 {
		before := s.write[w-1].phase
		if before == notBegun {
			return false
		}
		// Writes of one value at a time: what two Sets that overlap leave behind, no cache can know.
		if (m.Writes[w].Kind == Set || m.Writes[w-1].Kind == Set) && before <= executed {
			return false
		}
	}
	in := &s.inst[m.Writes[w].By]
	s.source = m.versionOf(w)
	s.write[w] = write{phase: underway, epoch: in.epoch}
	if m.Writes[w].Kind != Set {
		s.write[w].epoch = 0
	}
	if in.hold != 0 && m.Writes[w].Kind != InvalidateAll && !m.Without.has(EarlierSet) {
		s.write[w].late = 1 // a new epoch refuses that Set
	}
	in.journal = sinceBeat
	if m.Without.has(OneScript) {
		m.publish(s, m.messageOf(w), int(m.Writes[w].By))
	}
	if !m.Without.has(FirstEviction) {
		m.evictFor(s, w)
	}
	return true
}

// evictFor drops what is local: the key, or everything.
func (m *Model) evictFor(s *state, w int) {
	i := int(m.Writes[w].By)
	if m.Writes[w].Kind == InvalidateAll {
		m.flush(s, i)
		return
	}
	m.evict(s, i)
}

// evictAgain is the second eviction. After an InvalidateAll the epoch that the gate knows is of no use either.
func (m *Model) evictAgain(s *state, i int, all bool) {
	if m.Without.has(SecondEviction) {
		return
	}
	if !all {
		m.evict(s, i)
		return
	}
	s.inst[i].shut, s.inst[i].beat.shut = 1, 1
	m.flush(s, i)
}

func (m *Model) messageOf(w int) message {
	if m.Writes[w].Kind == InvalidateAll {
		return allMessage
	}
	return evictMessage
}

// execute is the script. A demoted master refuses it.
func (m *Model) execute(s *state, w int) bool {
	if s.inst[m.Writes[w].By].control != toMaster {
		return m.fails(s, w)
	}
	m.runWrite(s, m.Writes[w].Kind, w, s.write[w].epoch, s.write[w].age)
	s.write[w].phase, s.write[w].age = executed, 0
	return true
}

// runWrite is what Redis does.
func (m *Model) runWrite(s *state, k Kind, w int, of epoch, age uint8) {
	v := m.versionOf(w)
	d := &s.redis
	d.done = max(d.done, v)
	switch k {
	case Invalidate:
		d.invalidate(m.Without)
	case InvalidateAll:
		d.invalidateAll()
	case Set:
		tooLate := age > 0 && !m.Without.has(LateSetRefused)
		if d.set(v, of, tooLate, m.Without) && s.source > v && s.write[w].phase != returned {
			s.write[w].outrun = outrunNow
			m.count(Outrun)
		}
	}
	if !m.Without.has(OneScript) {
		m.publish(s, m.messageOf(w), int(m.Writes[w].By))
	}
}

// returns is the second eviction and the return of nil, or of ErrPending where an earlier Set may still arrive: what that leaves
// behind, its repetition invalidates.
func (m *Model) returns(s *state, w int) bool {
	i := int(m.Writes[w].By)
	m.evictAgain(s, i, m.Writes[w].Kind == InvalidateAll)
	s.inst[i].journal = sinceBeat
	if x := &s.write[w]; x.late != 0 {
		*x = write{phase: unsettled, outrun: x.outrun}
		m.count(Late)
		return true
	}
	m.acknowledge(s, w)
	return true
}

// acknowledge starts the time in which others may still return what is older.
func (m *Model) acknowledge(s *state, w int) {
	x := &s.write[w]
	*x = write{phase: returned, orphan: x.orphan, outrun: x.outrun}
	if s.redis.done < m.versionOf(w) {
		x.lost = 1
	}
	m.count(Acknowledged)
}

// fails leaves the invalidation pending and evicts for the second time.
func (m *Model) fails(s *state, w int) bool {
	i := int(m.Writes[w].By)
	in := &s.inst[i]
	x := &s.write[w]
	if !m.Without.has(Retry) {
		m.addPending(in, m.Writes[w].Kind == InvalidateAll)
		if m.Writes[w].Kind == Set && x.age == 0 && !m.Without.has(RetryAfterSet) {
			in.hold = 1
		}
	}
	m.evictAgain(s, i, m.Writes[w].Kind == InvalidateAll)
	*x = write{phase: unsettled, outrun: x.outrun}
	return true
}

func (m *Model) addPending(in *instance, all bool) {
	in.pending, in.retried = 1, 0 // what was added during its own retry stays
	in.all = max(in.all, bit(all))
}

// writeStrays gives up on a script that will run later.
func (m *Model) writeStrays(s *state, w int) bool {
	x := &s.write[w]
	in := &s.inst[m.Writes[w].By]
	if s.stray.what != noStray || m.Writes[w].Kind == InvalidateAll || in.control != toMaster || !m.trip(s) {
		return false
	}
	s.stray = stray{what: strayInvalidate, val: m.versionOf(w)}
	if m.Writes[w].Kind == Set {
		s.stray = stray{what: straySet, val: m.versionOf(w), epoch: x.epoch, age: x.age}
	}
	return m.fails(s, w)
}

func (m *Model) strayRuns(s *state) bool {
	x := s.stray
	if x.what == noStray {
		return false
	}
	s.stray = stray{}
	switch x.what {
	case strayFill:
		without := m.Without
		if x.blind != 0 {
			without |= TokenInFill
		}
		s.redis.fill(late, x.val, x.epoch, without)
		s.renameLease(late, orphan)
	case strayInvalidate:
		m.runWrite(s, Invalidate, int(x.val)-1, 0, 0)
	case straySet:
		m.runWrite(s, Set, int(x.val)-1, x.epoch, x.age)
	}
	m.count(StrayRan)
	return true
}

// repeat is the script of a pending invalidation.
func (m *Model) repeat(s *state, i int) bool {
	in := &s.inst[i]
	if in.pending == 0 || in.retried != 0 || in.hold != 0 || in.control != toMaster {
		return false
	}
	k := Invalidate
	if in.all != 0 {
		k = InvalidateAll
	}
	last := -1
	for w := range m.Writes {
		if int(m.Writes[w].By) == i && s.write[w].phase != notBegun && s.write[w].phase != terminated {
			last = w
		}
	}
	if last < 0 {
		return false
	}
	d := &s.redis
	d.done = max(d.done, m.versionOf(last))
	if k == InvalidateAll {
		d.invalidateAll()
		m.publish(s, allMessage, i)
	} else {
		d.invalidate(m.Without)
		m.publish(s, evictMessage, i)
	}
	in.retried = 1
	m.count(Repeated)
	return true
}

// confirm is the reply of repeat: the invalidation is settled.
func (m *Model) confirm(s *state, i int) bool {
	in := &s.inst[i]
	if in.retried == 0 {
		return false
	}
	m.evictAgain(s, i, in.all != 0)
	in.pending, in.all, in.retried = 0, 0, 0
	in.journal = sinceBeat
	for w := range m.Writes {
		x := &s.write[w]
		if int(m.Writes[w].By) != i || x.orphan != 0 {
			continue
		}
		if x.outrun == outrunNow {
			x.outrun++
		}
		if x.phase == unsettled || x.phase == returned && x.excused != 0 {
			m.acknowledge(s, w)
		} else if x.phase == returned && s.redis.done >= m.versionOf(w) {
			x.lost = 0
		}
	}
	m.forgive(s)
	return true
}
