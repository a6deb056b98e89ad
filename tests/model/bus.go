package model

// The subscription and the heartbeats: pubsub/receive.go and beat.go, tiered/listener.go, and what a change of lineage sets
// going.

func (m *Model) bus(s *state, a Action, i int) bool {
	in := &s.inst[i]
	switch a {
	case Deliver:
		return m.deliver(s, i)
	case Beat:
		return m.wantsBeat(in, i) && m.sendBeat(s, i) && (in.beat.out == 0 || m.beatReply(s, i))
	case BeatSent:
		return m.wantsBeat(in, i) && in.control == toMaster && spend(&s.used.beats, m.SlowBeats) && m.sendBeat(s, i)
	case BeatReply:
		return in.beat.out != 0 && m.beatReply(s, i)
	case BeatUnheard:
		if in.beat.out == 0 || !m.trip(s) {
			return false
		}
		m.beatFailed(s, i)
		return true
	case Connect:
		return in.link == noLink && in.control == toMaster && m.connect(s, i)
	case Notice:
		if in.link != broken && in.link != demoted {
			return false
		}
		m.endSession(s, i)
		return true
	case Ping:
		if in.link != alive && in.link != demoted || in.proof == 0 {
			return false
		}
		return push(in, beatMessage)
	default:
		panic("model: not a step of the bus")
	}
}

// wantsBeat leaves out heartbeats that would tell nothing new.
func (m *Model) wantsBeat(in *instance, i int) bool {
	if in.beat.out != 0 {
		return false
	}
	news := in.failed != 0 || in.shut != 0 || in.past != sameLineage || in.grace == graceOver || in.journal == sinceBeat
	return news || m.reads[i] && (in.sent > 0 || in.doubt != 0 || !m.Deaf && in.proof > 0 && !queued(in, beatMessage))
}

func queued(in *instance, x message) bool {
	for _, y := range in.queue {
		if x == y {
			return true
		}
	}
	return false
}

// nobody is the sender of a message that is nobody's own.
const nobody = -1

// publish hands a message to every subscriber that Redis knows. It closes the connection of one that does not read.
func (m *Model) publish(s *state, x message, from int) {
	for i := range m.Instances {
		in := &s.inst[i]
		if i == from && m.Without.has(OwnMessages) {
			continue
		}
		if in.link == alive && !push(in, x) {
			in.link = broken
		}
	}
}

// push queues a message. A heartbeat right behind another takes its place: nothing can be heard between the two, and the later
// proves more.
func push(in *instance, x message) bool {
	for i := range in.queue {
		if x == beatMessage && in.queue[i] >= beatMessage && (i+1 == queueLen || in.queue[i+1] == noMessage) {
			in.queue[i] = x
			return true
		}
		if in.queue[i] == noMessage {
			in.queue[i] = x
			return true
		}
	}
	return false
}

// deliver is the receiver's next message.
func (m *Model) deliver(s *state, i int) bool {
	in := &s.inst[i]
	x := in.queue[0]
	if x == noMessage {
		return false
	}
	copy(in.queue[:], in.queue[1:])
	in.queue[queueLen-1] = noMessage
	switch {
	case x == evictMessage:
		if !m.Without.has(ForeignMessages) {
			m.evict(s, i)
		}
		m.count(Heard)
	case x == allMessage:
		if !m.Without.has(ForeignMessages) {
			in.doubt, in.beat.doubt = 1, in.beat.out
			m.flush(s, i)
		}
		m.count(Heard)
	case m.Without.has(ProofAtSending):
		in.proof = 0
	default:
		in.proof = min(in.proof, x-beatMessage)
		m.count(Proved)
	}
	return true
}

// connect is a new session: the channel is confirmed on a new connection.
func (m *Model) connect(s *state, i int) bool {
	in := &s.inst[i]
	in.link, in.proof = alive, m.never()
	in.doubt, in.beat.doubt = 1, in.beat.out
	if !m.Without.has(FlushOnBegin) {
		m.flush(s, i)
	}
	m.count(Reconnected)
	return true
}

func (m *Model) endSession(s *state, i int) {
	in := &s.inst[i]
	in.link, in.queue = noLink, [queueLen]message{}
	if !m.Without.has(FlushOnEnd) {
		in.proof = m.never()
		m.flush(s, i)
	}
}

// sendBeat sends the heartbeat, and Redis runs it.
func (m *Model) sendBeat(s *state, i int) bool {
	in := &s.inst[i]
	if in.control != toMaster {
		m.beatFailed(s, i) // READONLY
		return true
	}
	was := in.past
	replaced := s.redis.beat(was, m.Without)
	if replaced {
		m.publish(s, allMessage, nobody)
		m.restore(s)
		m.count(EpochRenewed)
	} else if was == continued {
		m.count(EpochKept)
	}
	in.beat = beat{out: 1, epoch: s.redis.epoch, was: was, past: sameLineage, kept: 1 - s.redis.renewed}
	in.beat.graced = bit(in.grace == graceOver)
	if in.link == alive && !push(in, beatMessage) {
		in.link = broken
	}
	if in.journal == sinceBeat && (!m.writing(s, i) || m.Without.has(JournalUnderway)) {
		in.journal = beforeSent
	}
	return true
}

// writing reports whether a write of instance i is under way.
func (m *Model) writing(s *state, i int) bool {
	for w := range m.Writes {
		p := s.write[w].phase
		if int(m.Writes[w].By) == i && (p == underway || p == executed) {
			return true
		}
	}
	return s.inst[i].retried != 0
}

// restore is a new epoch's effect on what a failover has undone: no old entry is valid any more.
func (m *Model) restore(s *state) {
	s.redis.done = s.source
	for w := range m.Writes {
		x := &s.write[w]
		if x.phase == returned && x.excused != 0 {
			x.age = 0
		}
		x.lost, x.lostAge, x.excused = 0, 0, 0
	}
	m.forgive(s)
}

// beatReply is gate.report, and what follows from the lineage.
func (m *Model) beatReply(s *state, i int) bool {
	in := &s.inst[i]
	b := in.beat
	in.beat = beat{}
	in.sent, in.failed, in.epoch, in.shut, in.doubt = b.age, 0, b.epoch, b.shut, b.doubt
	in.past, in.synced = b.past, b.synced
	if in.grace == graceOver && b.graced != 0 {
		in.grace = 0
	}
	if b.kept != 0 && (b.was == continued || b.was == interrupted || b.was == newcomer && !m.Without.has(NewcomerGrace)) {
		m.beginGrace(in)
	}
	switch {
	case b.was == continued || b.was == interrupted:
		m.newLineage(s, i)
	case b.was == newcomer && !m.Without.has(NewcomerJournal):
		// What it wrote before its first heartbeat may have gone to a server before this one.
		m.replay(s, i)
	}
	if in.journal == beforeSent || m.Without.has(JournalUntilSent) {
		in.journal = nothing
	}
	if b.past != sameLineage && in.data == toMaster {
		in.data = toNobody // the connections lead to yet another server
	}
	if b.past == sameLineage && in.data == toNobody {
		in.data = toMaster
	}
	return true
}

// beginGrace keeps L2 shut for MaxStaleness, and then until the answer to a heartbeat that was sent after it.
func (m *Model) beginGrace(in *instance) {
	if !m.Without.has(Grace) {
		in.grace = m.MaxStaleness + graceOver
	}
}

// newLineage is what an instance does that finds itself under another replid than before.
func (m *Model) newLineage(s *state, i int) {
	m.replay(s, i)
	if !m.Without.has(Reset) {
		m.reset(s, i)
	}
}

// replay makes pending what the journal holds, and what is under way.
func (m *Model) replay(s *state, i int) {
	in := &s.inst[i]
	underway := m.writing(s, i) && !m.Without.has(JournalUnderway)
	if (in.journal != nothing || underway) && !m.Without.has(Journal) {
		m.addPending(in, m.wroteAll(s, i))
		m.count(Replayed)
	}
	in.journal = nothing
	if underway {
		in.journal = sinceBeat
	}
}

func (m *Model) wroteAll(s *state, i int) bool {
	for w := range m.Writes {
		if int(m.Writes[w].By) == i && m.Writes[w].Kind == InvalidateAll && s.write[w].phase != notBegun {
			return true
		}
	}
	return false
}

// beatFailed closes the gate and every connection.
func (m *Model) beatFailed(s *state, i int) {
	in := &s.inst[i]
	in.beat = beat{}
	in.failed = 1
	m.reset(s, i)
}

// reset has every connection dialled anew. A read on one waits for a heartbeat that says where it leads.
func (m *Model) reset(s *state, i int) {
	in := &s.inst[i]
	in.control = toMaster
	if in.data == toOld || in.data == toNobody {
		in.data = toMaster
	}
	if in.link != noLink {
		m.endSession(s, i)
	}
	in.setAdrift()
}

// setAdrift is for those who have looked at the gate and not heard from L2 yet.
func (in *instance) setAdrift() {
	for j := range in.flight {
		if p := in.flight[j].phase; p == reading || p == asking {
			in.flight[j].adrift = 1
		}
	}
}
