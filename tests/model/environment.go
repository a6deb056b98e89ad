package model

// environment is what happens to the fleet.
func (m *Model) environment(s *state, a Action, i int) bool {
	in := &s.inst[i]
	switch a {
	case Tick:
		return m.tick(s)
	case Die:
		if in.link != alive || !spend(&s.used.deaths, m.Deaths) {
			return false
		}
		in.link = broken
	case Crash:
		if !spend(&s.used.crashes, m.Crashes) {
			return false
		}
		m.crash(s, i)
	case Stall:
		return m.stall(s)
	case Failover:
		if s.stalled == 0 || !spend(&s.used.failovers, m.Failovers) {
			return false
		}
		m.failover(s, false)
	case Restart:
		if s.stalled == 0 || !spend(&s.used.failovers, m.Failovers) {
			return false
		}
		m.failover(s, true)
	case EvictEntry:
		if (s.redis.val == none && s.redis.lease == 0) || !spend(&s.used.evictions, m.Evictions) {
			return false
		}
		s.redis.val, s.redis.valEpoch, s.redis.lease, s.redis.expired = none, 0, 0, 0
	case EvictEpoch:
		if s.redis.epoch == 0 || !spend(&s.used.evictions, m.Evictions) {
			return false
		}
		s.redis.epoch, s.redis.marked, s.redis.renewed = 0, 0, 0
	case LeaseExpires:
		if s.redis.lease == 0 || s.redis.expired != 0 || !spend(&s.used.expiries, m.Leases) {
			return false
		}
		s.redis.expired = 1
	case RedialControl:
		if in.control != toOld {
			return false
		}
		in.control = toMaster
		if !m.Without.has(CheckedControl) {
			in.shut, in.beat.shut = 1, in.beat.out
			in.setAdrift()
		}
	case RedialData:
		if in.data == toMaster {
			return false
		}
		in.data = toMaster
	default:
		panic("model: not a step of the environment")
	}
	return true
}

// tick lets time pass. A call to Redis takes less than a tick, so it is in at most two: RedisTimeout is a small part of
// MaxStaleness.
func (m *Model) tick(s *state) bool {
	for i := range m.Instances {
		for j := range s.inst[i].flight {
			if s.inst[i].flight[j].trip != 0 {
				return false
			}
		}
	}
	if !spend(&s.used.ticks, m.Ticks) {
		return false
	}
	for i := range m.Instances {
		m.ageInstance(&s.inst[i])
	}
	for w := range m.Writes {
		m.ageWrite(s, w)
	}
	m.grow(&s.stray.age)
	if s.stray.what != straySet {
		s.stray.age = 0
	}
	m.ageHit(&s.hit)
	return true
}

func (m *Model) grow(age *uint8) { *age = min(*age+1, m.never()) }

func (m *Model) ageInstance(in *instance) {
	m.grow(&in.proof)
	m.grow(&in.sent)
	if in.held != none {
		m.grow(&in.heldAge)
	}
	if in.beat.out != 0 {
		m.grow(&in.beat.age)
	}
	in.hold = 0
	m.ageGrace(in)
	for j := range in.queue {
		if in.queue[j] >= beatMessage {
			in.queue[j] = min(in.queue[j]+1, beatMessage+m.never())
		}
	}
	for j := range in.flight {
		f := &in.flight[j]
		if f.phase == idle {
			continue
		}
		m.grow(&f.age)
		if f.phase == reading || f.phase == asking {
			f.trip = 1
		}
	}
}

func (m *Model) ageGrace(in *instance) {
	if in.grace > graceOver {
		in.grace--
	}
	if in.grace == graceOver && m.Without.has(BeatAfterGrace) {
		in.grace = 0
	}
}

func (m *Model) ageWrite(s *state, w int) {
	x := &s.write[w]
	if x.outrun > outrunNow {
		if x.outrun++; x.outrun > outrunNow+1+m.never() {
			x.outrun = 0
		}
	}
	switch x.phase {
	case underway:
		x.age = 1 // all that matters to a Set is whether it is late
	case returned:
		m.grow(&x.age)
	}
	if x.lost != 0 {
		x.lostAge = min(x.lostAge+1, m.MaxStaleness)
		if x.lostAge == m.MaxStaleness && x.excused == 0 && m.excusable(s, w) {
			x.excused = 1
			m.count(Excused)
		}
	}
}

// excusable says that the writer has not been able to repeat what a failover has undone: it has not had a good heartbeat
// since, or the repetition is on its way.
func (m *Model) excusable(s *state, w int) bool {
	in := &s.inst[m.Writes[w].By]
	return in.past != sameLineage || in.pending != 0
}

// crash is the end of a process, and the start of the next one.
func (m *Model) crash(s *state, i int) {
	for j := range s.inst[i].flight {
		if s.inst[i].flight[j].phase != idle {
			s.renameLease(tokenOf(i, j), orphan)
		}
	}
	for w := range m.Writes {
		x := &s.write[w]
		if int(m.Writes[w].By) != i {
			continue
		}
		switch x.phase {
		case underway, executed, unsettled:
			*x = write{phase: terminated, outrun: x.outrun}
		case returned:
			x.orphan = 1
			if x.lost != 0 {
				x.excused = 1
			}
		}
	}
	if i == m.Instances-1 {
		s.hit = slowHit{}
	}
	s.inst[i] = m.newborn()
}

// stall is the moment after which the next failover's replica gets nothing more, or that of the snapshot.
func (m *Model) stall(s *state) bool {
	if s.stalled != 0 || s.used.failovers >= m.Failovers {
		return false
	}
	s.stalled = 1
	s.replica = snapshot(s.redis)
	for i := range m.Instances {
		s.inst[i].synced, s.inst[i].beat.synced = 1, s.inst[i].beat.out
	}
	return true
}

// failover promotes the replica as it is; a restart replaces the server by its last snapshot.
func (m *Model) failover(s *state, restart bool) {
	s.old, s.redis = s.redis, s.replica
	s.stalled, s.replica = 0, dataset{}
	s.stray = stray{} // it is on its way to a server that refuses it
	s.renameLease(late, orphan)
	for i := range m.Instances {
		in := &s.inst[i]
		in.past = after(in.past, in.synced != 0 && !restart)
		if in.beat.out != 0 {
			in.beat.past = after(in.beat.past, in.beat.synced != 0 && !restart)
		}
		in.synced, in.beat.synced = 0, 0
		if in.data == toMaster {
			in.data = toOld
		}
		in.control = toOld
		if in.link == alive {
			in.link = demoted
		}
		if restart {
			in.data, in.control = toNobody, toMaster
			if in.link == demoted {
				in.link = broken
			}
		}
	}
	m.count(FailedOver)
	for w := range m.Writes {
		x := &s.write[w]
		if x.phase == returned && s.redis.done < m.versionOf(w) && x.lost == 0 {
			x.lost = 1
			x.excused = x.orphan
			m.count(LostWrite)
		}
	}
}

// after is what a last heartbeat means once there has been a failover, to a replica that has what it saw or not.
func after(h history, synced bool) history {
	switch {
	case h == newcomer:
		return newcomer
	case h == sameLineage && synced:
		return continued
	}
	return interrupted
}

// newborn is a process that has just started.
func (m *Model) newborn() instance {
	return instance{held: none, proof: m.never(), sent: m.never(), shut: 1, past: newcomer, data: toNobody}
}
