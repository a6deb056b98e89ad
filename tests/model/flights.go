package model

// The read path: tiered/flight.go, fetch.go, lease.go, fill.go and gate.go.

// start is flights.join, where it makes a flight, and Cache.ticket.
func (m *Model) start(s *state, i int, refresh bool) bool {
	in := &s.inst[i]
	free := -1
	for j := range int(m.Flights) {
		f := &in.flight[j]
		switch {
		case f.phase == idle && free < 0:
			free = j
		case f.phase != idle && !refresh && m.joinable(in, f):
			return false
		}
	}
	if free < 0 {
		return false
	}
	if refresh && !spend(&s.used.refreshes, m.Refreshes) || !refresh && !spend(&s.used.flights, m.Starts) {
		return false
	}
	f := flight{phase: started, need: m.need(s, i)}
	if refresh {
		f.refresh = 1
	}
	if m.opening(in) == open && !m.Without.has(TicketOfGate) {
		f.age = in.sent // Ticket.NotAfter
	}
	in.flight[free] = f
	if !m.SlowLooks {
		m.look(in, &in.flight[free])
	}
	return true
}

// joinable is the rule of flights.join: a flight is joined under the rule of a hit. A refresh joins no running one. A flight
// that looked at a gate in doubt believes an epoch that is older than the proof, so the proof does not count.
func (m *Model) joinable(in *instance, f *flight) bool {
	proof := in.proof
	if f.doubted != 0 && !m.Without.has(JoinDoubted) {
		proof = m.never()
	}
	return (f.moved == 0 || m.Without.has(JoinVersion)) &&
		(f.gone == 0 || m.Without.has(JoinSession)) &&
		(min(f.age, proof) <= m.MaxStaleness || m.Without.has(JoinAge))
}

// gateState is what gate.look comes to.
type gateState uint8

const (
	closed gateState = iota
	waiting
	open
)

func (m *Model) opening(in *instance) gateState {
	switch {
	case in.failed != 0 && !m.Without.has(GateFailure):
		return closed
	case in.shut != 0 && (!m.Without.has(GateShut) || in.epoch == 0):
		return waiting
	case in.grace > 0:
		return closed
	case in.sent <= m.MaxStaleness || m.Without.has(GateBound):
		return open
	}
	return closed
}

func tokenOf(i, j int) token { return token(i*maxFlights + j + 1) }

// server is the Redis that a pool's connections lead to; nil if they lead nowhere. Of a demoted one only what does not write
// succeeds.
func (s *state) server(c conn) (d *dataset, writable bool) {
	switch c {
	case toMaster:
		return &s.redis, true
	case toOld:
		return &s.old, false
	}
	return nil, false
}

func (m *Model) flightStep(s *state, a Action, i, j int) bool {
	in := &s.inst[i]
	f := &in.flight[j]
	if f.phase == idle {
		return false
	}
	switch a {
	case Join:
		need := m.need(s, i)
		if need <= f.need || !m.joinable(in, f) {
			return false
		}
		f.need = need
		m.count(Joined)
		return true
	case Look:
		return f.phase == started && m.look(in, f)
	case WaitOver:
		return f.phase == started && m.opening(in) == waiting && m.trip(s) && m.goAlone(in, f)
	case Read:
		return f.phase == reading && m.read(s, in, f)
	case ReadFails:
		return f.phase == reading && m.trip(s) && m.goAlone(in, f)
	case Acquire:
		return f.phase == asking && m.acquire(s, i, j)
	case AcquireFails:
		return f.phase == asking && m.trip(s) && m.goAlone(in, f)
	case AcquireUnheard:
		return f.phase == asking && m.acquireUnheard(s, i, j)
	case LeaseWaitOver:
		if f.phase != asking || f.refresh != 0 || s.redis.lease == 0 {
			return false
		}
		f.phase, f.keep = alone, 0
		return true
	case Renew:
		return (f.phase == leased || f.phase == filling) && m.renew(s, i, j)
	case Load:
		return m.load(s, f)
	case Fill:
		return f.phase == filling && m.fill(s, i, j)
	case FillFails:
		if f.phase != filling || f.lost != 0 || !m.trip(s) {
			return false
		}
		f.phase, f.keep = arrived, 1
		return true
	case FillUnheard:
		if f.phase != filling || f.lost != 0 || in.data != toMaster || !m.trip(s) {
			return false
		}
		m.fill(s, i, j)
		f.phase, f.keep = arrived, 1
		return true
	case FillStrays:
		return f.phase == filling && f.lost == 0 && m.fillStrays(s, i, j)
	case Finish:
		return f.phase == arrived && m.finish(s, i, j)
	default:
		panic("model: not a flight's step")
	}
}

// trip spends a timeout.
func (m *Model) trip(s *state) bool { return spend(&s.used.timeouts, m.Trips) }

// look is fetch up to its first call to Redis.
func (m *Model) look(in *instance, f *flight) bool {
	switch state := m.opening(in); {
	case state == waiting:
		return false
	case in.pending != 0 && !m.Without.has(PendingBypass):
		f.phase, f.keep = alone, 0
		m.count(Bypassed)
	case state == closed:
		if in.grace > 0 {
			m.count(GraceKept)
		}
		f.phase, f.keep = alone, 1
	default:
		f.epoch, f.keep = in.epoch, 1
		if !m.Without.has(TicketOfGate) && !m.Without.has(TicketAtLook) {
			f.age = max(f.age, in.sent)
		}
		if in.doubt != 0 && !m.Without.has(GateDoubt) {
			f.keep, f.doubted = 0, 1
		}
		f.phase = reading
		if f.refresh != 0 {
			f.phase, f.seen = asking, unwanted
		}
	}
	return true
}

// goAlone is loadAlone after a call that failed: what it brings may enter L1, because there the ticket decides.
func (m *Model) goAlone(in *instance, f *flight) bool {
	f.keep = 1
	if f.phase == started && in.pending != 0 && !m.Without.has(PendingBypass) {
		f.keep = 0
	}
	f.phase = alone
	return true
}

func (m *Model) read(s *state, in *instance, f *flight) bool {
	d, _ := s.server(in.data)
	switch {
	case d == nil || m.isAdrift(f):
		return m.goAlone(in, f)
	case d.val != none && d.valEpoch == f.epoch:
		f.phase, f.val = arrived, d.val
		m.count(RemoteHit)
	default:
		f.phase, f.seen = asking, wanted
	}
	f.trip = 0
	return true
}

// isAdrift reports that an answer would come from another Redis than the one that the gate was open for.
func (m *Model) isAdrift(f *flight) bool { return f.adrift != 0 && !m.Without.has(ReadInLineage) }

func (m *Model) acquire(s *state, i, j int) bool {
	in := &s.inst[i]
	f := &in.flight[j]
	d, writable := s.server(in.data)
	if d == nil || m.isAdrift(f) {
		return m.goAlone(in, f)
	}
	was, copied := *f, *d
	taker := copied.lease
	result := copied.acquire(tokenOf(i, j), f.seen, f.bad, f.badEpoch)
	if !writable && result != found {
		return m.goAlone(in, f)
	}
	*d = copied
	f.trip = 0
	switch result {
	case acquired:
		if f.refresh != 0 && taker != 0 {
			m.count(TakenOver)
		}
		f.phase, f.epoch = leased, d.epoch
	case found:
		if d.usable() {
			f.phase, f.val = arrived, d.val
			m.count(RemoteHit)
			break
		}
		f.seen, f.bad, f.badEpoch = unusable, d.val, d.valEpoch
		return *f != was
	case held:
		m.count(Waited)
		return false // it asks again: nothing has changed
	}
	return true
}

// acquireUnheard is a lease that Redis granted to a flight which has gone on without it.
func (m *Model) acquireUnheard(s *state, i, j int) bool {
	in := &s.inst[i]
	f := &in.flight[j]
	if in.data != toMaster {
		return false
	}
	if s.redis.acquire(unheard, f.seen, f.bad, f.badEpoch) != acquired || !m.trip(s) {
		return false
	}
	s.renameLease(unheard, orphan)
	return m.goAlone(in, f)
}

func (m *Model) renew(s *state, i, j int) bool {
	in := &s.inst[i]
	f := &in.flight[j]
	if in.data != toMaster || f.lost != 0 {
		return false
	}
	if s.redis.lease == tokenOf(i, j) && s.redis.expired == 0 {
		return false // no change
	}
	switch {
	case m.Without.has(OwnerInRenewal):
		s.redis.lease, s.redis.expired = tokenOf(i, j), 0
	case !s.redis.renew(tokenOf(i, j)):
		f.lost = 1
	default:
		m.count(Renewed)
	}
	return true
}

// load is the moment at which the loader reads the source.
func (m *Model) load(s *state, f *flight) bool {
	switch f.phase {
	case leased:
		f.phase = filling
	case alone:
		f.phase = arrived
		m.count(LoadedAlone)
	default:
		return false
	}
	f.val = s.source
	return true
}

func (m *Model) fill(s *state, i, j int) bool {
	in := &s.inst[i]
	f := &in.flight[j]
	f.phase = arrived
	switch {
	case f.lost != 0:
		f.keep = 0
	case in.data != toMaster:
		f.keep = 1
	case s.redis.fill(tokenOf(i, j), f.val, f.epoch, m.fillWithout(f)):
		f.keep = 1
		m.count(Filled)
	default:
		f.keep = 0
		m.count(Refused)
	}
	return true
}

func (m *Model) fillWithout(f *flight) mutations {
	if f.refresh != 0 && m.Without.has(TokenInRefresh) {
		return m.Without | TokenInFill
	}
	return m.Without
}

// fillStrays leaves the request on its way. The flight's token goes with it.
func (m *Model) fillStrays(s *state, i, j int) bool {
	in := &s.inst[i]
	f := &in.flight[j]
	if s.stray.what != noStray || in.data != toMaster || !m.trip(s) {
		return false
	}
	s.stray = stray{what: strayFill, val: f.val, epoch: f.epoch}
	if m.fillWithout(f).has(TokenInFill) {
		s.stray.blind = 1
	}
	s.renameLease(tokenOf(i, j), late)
	f.phase, f.keep = arrived, 1
	return true
}

// renameLease gives a lease to another token, wherever it is held.
func (s *state) renameLease(from, to token) {
	for _, d := range []*dataset{&s.redis, &s.replica, &s.old} {
		if d.lease == from {
			d.lease = to
		}
	}
}

// finish is putLocal and the return to all who have joined.
func (m *Model) finish(s *state, i, j int) bool {
	in := &s.inst[i]
	f := &in.flight[j]
	if f.keep != 0 && m.mayStore(in, f) {
		in.held, in.heldAge = f.val, f.age
		if m.Without.has(AgeFromTicket) || m.Without.has(EarlyTicket) {
			in.heldAge = 0
		}
		m.count(Stored)
	}
	m.judge(s, i, f.val, f.need, "a flight returned")
	s.renameLease(tokenOf(i, j), orphan)
	*f = flight{}
	return true
}

// mayStore is local.Store.Put: is the ticket still good?
func (m *Model) mayStore(in *instance, f *flight) bool {
	if m.Without.has(EarlyTicket) {
		return true
	}
	return (f.moved == 0 || m.Without.has(StripeCompare)) && f.gone == 0 && m.fresh(f.age, in.proof)
}

// fresh is the age half of local's rule.
func (m *Model) fresh(age, proof uint8) bool {
	return min(age, proof) <= m.MaxStaleness || m.Without.has(AgeRule)
}

// serves reports whether a Get would hit.
func (m *Model) serves(in *instance) bool {
	return in.held != none && m.fresh(in.heldAge, in.proof)
}

// evict is Cache.evict: the entry, the tickets, the flights.
func (m *Model) evict(s *state, i int) {
	in := &s.inst[i]
	in.held = none
	for j := range in.flight {
		if in.flight[j].phase != idle {
			in.flight[j].moved = 1
		}
	}
	m.voidHit(s, i)
}

// flush is local.Store.Flush, and what Begin and End have in common with it.
func (m *Model) flush(s *state, i int) {
	in := &s.inst[i]
	in.held = none
	for j := range in.flight {
		if in.flight[j].phase != idle {
			in.flight[j].gone = 1
		}
	}
	m.voidHit(s, i)
}

func (m *Model) voidHit(s *state, i int) {
	if s.hit.step != 0 && i == m.Instances-1 {
		s.hit.void = 1
	}
}

// slowHit is local.Store.lookup in its single readings: the entry; the proof; the clock; the version and the session. What
// was read stands still, what was not grows older: see ageHit.
func (m *Model) slowHit(s *state, a Action, i int) bool {
	in, h := &s.inst[i], &s.hit
	versionFirst, clockFirst := m.Without.has(HitOrder), m.Without.has(ClockAfterProof)
	switch {
	case a == HitFind && h.step == 0:
		if in.held == none || !spend(&s.used.hits, m.SlowHits) {
			return false
		}
		*h = slowHit{val: in.held, age: in.heldAge, need: m.need(s, i)}
	case a == HitSecond && h.step == 1:
		switch {
		case versionFirst:
			h.same = 1 - h.void
		case !clockFirst:
			h.proof = in.proof
		}
	case a == HitThird && h.step == 2:
		switch {
		case versionFirst: // the clock
		case clockFirst:
			h.proof = m.proofAt(in, h)
		}
	case a == HitLast && h.step == 3:
		if versionFirst {
			h.proof = m.proofAt(in, h)
		} else {
			h.same = 1 - h.void
		}
		if h.same != 0 && m.fresh(h.age, h.proof) {
			m.judge(s, i, h.val, h.need, "a slow hit returned")
			m.count(SlowHit)
		}
		*h = slowHit{}
		return true
	default:
		return false
	}
	h.step++
	return true
}

// proofAt is the proof's age by a clock that was read h.stale ticks ago.
func (m *Model) proofAt(in *instance, h *slowHit) uint8 {
	if in.proof > m.MaxStaleness {
		return in.proof
	}
	return in.proof - min(h.stale, in.proof)
}

// ageHit lets a tick pass between two readings.
func (m *Model) ageHit(h *slowHit) {
	versionFirst, clockFirst := m.Without.has(HitOrder), m.Without.has(ClockAfterProof)
	clockRead := h.step == 3 || h.step == 2 && clockFirst
	proofRead := h.step == 3 && !versionFirst || h.step == 2 && !versionFirst && !clockFirst
	switch {
	case h.step == 0:
	case !clockRead:
		m.grow(&h.age)
		if proofRead {
			m.grow(&h.proof)
		}
	case !proofRead:
		m.grow(&h.stale)
	}
}

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}
