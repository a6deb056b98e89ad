package model

import "unsafe"

const (
	maxInstances = 3
	maxFlights   = 2 // of one key and process: tiered's maxRunning
	maxWrites    = 2
	queueLen     = 3 // messages on their way to one subscriber; with more of them Redis closes the connection
)

// state is all that matters at one moment. It is a plain value, compared and hashed as bytes: every field is a uint8.
//
// Times are ages in ticks. Past the bound all ages are alike, so an age stops at bound+1, and states that differ in nothing
// else are one.
type state struct {
	source version // how many writes have been committed
	redis  dataset // the master
	// replica is what is promoted next, a replica that lags or a snapshot. old is the master before the last failover, which
	// refuses writes and goes on answering reads.
	replica, old dataset
	stalled      uint8 // the replica gets nothing more
	inst         [maxInstances]instance
	write        [maxWrites]write
	stray        stray
	hit          slowHit
	used         budget
}

// instance is one process.
type instance struct {
	// The first tier (package local): the entry, whose ticket is good, and the session's proof.
	held    version
	heldAge uint8
	proof   uint8

	// The subscription (package pubsub).
	link  link
	queue [queueLen]message

	// The gate (tiered/gate.go): what the last good heartbeat has shown.
	sent   uint8 // its age
	failed uint8 // the last heartbeat was none
	epoch  epoch
	shut   uint8 // it was sent before shut was called
	doubt  uint8 // before doubt was called
	grace  uint8 // after a change of lineage: graceOver, plus the ticks until then
	past   history
	synced uint8 // the replica has what it saw

	beat beat

	// The pending invalidation (tiered/pending.go), and the journal of what a failover may undo.
	pending uint8
	all     uint8 // it is of everything
	hold    uint8 // not to be repeated yet: the Set that failed could still run
	retried uint8 // Redis has run it, and the reply is on its way
	journal journal

	data, control conn

	flight [maxFlights]flight
}

// beat is a heartbeat whose reply is on its way.
type beat struct {
	out    uint8
	age    uint8
	epoch  epoch
	shut   uint8
	doubt  uint8
	was    history // of the heartbeat before it: the lineage has changed unless it is sameLineage
	past   history
	synced uint8
	kept   uint8 // the epoch stood already under the replication id before
	graced uint8 // sent after the grace
}

// graceOver is an instance's grace when only a heartbeat that is sent from now on is missing.
const graceOver = 1

// link is the connection of the subscription.
type link = uint8

const (
	noLink  link = iota
	alive        // what is published is queued
	broken       // half-open: nothing more arrives, and the instance has not noticed
	demoted      // the same, but PING is answered
)

// message is what a subscription carries. A heartbeat is beatMessage plus its age.
type message = uint8

const (
	noMessage message = iota
	evictMessage
	allMessage
	beatMessage
)

// conn is where a pool's connections lead.
type conn = uint8

const (
	toMaster conn = iota
	toOld         // to a master that has been demoted
	toNobody      // they are broken, and are dialled anew
)

// journal says how the last invalidation that Redis took stands to the heartbeats.
type journal = uint8

const (
	nothing    journal = iota
	sinceBeat          // since the last good heartbeat was sent
	beforeSent         // before the one that is on its way
)

// flight is one way of getting the value. It exists while phase is not idle.
type flight struct {
	phase   phase
	refresh uint8

	// The ticket.
	age   uint8
	moved uint8 // evicted since: the ticket is void, and the flight detached
	gone  uint8 // its session is over

	need version // what its callers may not get less than

	// What it knows of L2.
	keep     uint8 // what it gets may enter L1
	epoch    epoch // by the gate; from acquire on, by the lease
	seen     seen
	bad      version // with seen == unusable
	badEpoch epoch
	lost     uint8 // a renewal found the lease gone
	trip     uint8 // a tick has passed during a call to Redis
	doubted  uint8 // the epoch that it looks for may be an old one
	adrift   uint8 // since its look at the gate the connections were closed, or the lineage has changed

	val version
}

type phase = uint8

const (
	idle    phase = iota
	started       // has its ticket
	reading       // is about to GET
	asking        // is about to acquire the lease; also while it waits for another holder
	leased        // is about to read the source, holding the lease
	filling       // is about to fill
	alone         // is about to read the source, without a lease
	arrived       // has a value, is about to store it in L1 and to return it
)

// write is one Set, Invalidate or InvalidateAll. Its version is its place in the configuration, from 1 on: the source has
// committed it when it begins.
type write struct {
	phase  wphase
	age    uint8 // since it began, then since it returned nil
	epoch  epoch // that a Set carries
	orphan uint8 // the instance is gone: its own promise, C2, with it
	// lost says that a failover has undone it, and since when; excused that its writer had no chance to repeat it in time.
	lost    uint8
	lostAge uint8
	excused uint8
	// outrun says that a Set's value was stored after a later write had begun: Redis ordered them (see doc.go). Once the Set is
	// settled, it counts the ticks from outrunNow on.
	outrun uint8
	late   uint8 // when it began, an earlier Set of its writer could still arrive
}

const outrunNow = 1

type wphase = uint8

const (
	notBegun   wphase = iota
	underway          // evicted once, the script is on its way
	executed          // the reply is on its way
	returned          // nil
	unsettled         // ErrPending: the invalidation is pending
	terminated        // its process is gone, and nobody was told anything
)

// stray is a request whose caller has given up: it is on its way, and may run at any time.
type stray struct {
	what  strayKind
	val   version
	epoch epoch
	age   uint8
	blind uint8 // of a flight whose fill looks at no token, under a mutation
}

type strayKind = uint8

const (
	noStray strayKind = iota
	strayFill
	straySet
	strayInvalidate
)

// slowHit is one lookup in L1, taken in its single readings (local.Store.lookup). Other lookups are one step.
type slowHit struct {
	step  uint8
	val   version
	need  version
	age   uint8 // of the entry's ticket
	proof uint8
	void  uint8 // the entry's version or session has changed
	same  uint8 // they were found unchanged
	stale uint8 // ticks since the clock was read
}

// budget counts the faults that have happened.
type budget struct {
	ticks, flights, refreshes, deaths, crashes, failovers, evictions, expiries, timeouts, hits, beats uint8
}

func (s *state) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(s)), unsafe.Sizeof(*s))
}

// normalize gives states that behave alike one form: epochs are numbered as they occur, what nobody reads is zero.
func (m *Model) normalize(s *state) {
	s.old = dataset{val: s.old.val, valEpoch: s.old.valEpoch, epoch: s.old.epoch} // it is read, no more
	if s.stalled == 0 {
		for i := range m.Instances {
			s.inst[i].synced, s.inst[i].beat.synced = 0, 0
		}
	}
	if !s.oldInUse(m.Instances) {
		s.old = dataset{}
	}
	for i := range m.Instances {
		if !m.reads[i] {
			m.normalizeWriter(&s.inst[i])
		}
		if m.Failovers == 0 {
			s.inst[i].journal = nothing
		}
		m.normalizeInstance(&s.inst[i])
	}
	var names epochNames
	names.dataset(&s.redis)
	names.dataset(&s.replica)
	names.dataset(&s.old)
	for i := range m.Instances {
		in := &s.inst[i]
		names.rename(&in.epoch)
		names.rename(&in.beat.epoch)
		for j := range in.flight {
			names.rename(&in.flight[j].epoch)
			names.rename(&in.flight[j].badEpoch)
		}
	}
	for i := range s.write {
		names.rename(&s.write[i].epoch)
	}
	names.rename(&s.stray.epoch)
}

func (s *state) oldInUse(n int) bool {
	for i := range n {
		if s.inst[i].data == toOld || s.inst[i].control == toOld {
			return true
		}
	}
	return false
}

func (m *Model) normalizeInstance(in *instance) {
	if in.held == none {
		in.heldAge = 0
	}
	m.normalizeGate(in)
	if in.pending == 0 {
		in.all, in.hold, in.retried = 0, 0, 0
	}
	if in.journal == beforeSent && in.beat.out == 0 {
		in.journal = sinceBeat
	}
	for j := range in.flight {
		f := &in.flight[j]
		if f.phase != reading && f.phase != asking {
			f.trip, f.adrift = 0, 0
		}
		if m.Without == 0 && (f.moved != 0 || f.gone != 0) {
			// Nobody joins it and nothing of it enters L1: how that came about does not matter.
			f.moved, f.gone, f.age = 1, 1, m.MaxStaleness+1
		}
		if f.phase == leased || f.phase == filling || f.phase == alone {
			f.doubted = 0
		}
		switch f.phase {
		case started, alone:
			f.epoch = 0
		case arrived:
			f.epoch, f.lost = 0, 0
		case leased, filling:
			f.seen, f.bad, f.badEpoch, f.keep = 0, 0, 0, 1
		}
	}
	if m.Without == 0 && in.flight[1].phase < in.flight[0].phase && in.flight[1].phase != idle {
		// Tokens name a flight by its place, so only flights that hold none change places.
		if noToken(in.flight[0].phase) && noToken(in.flight[1].phase) {
			in.flight[0], in.flight[1] = in.flight[1], in.flight[0]
		}
	}
}

// normalizeGate forgets what the gate knows while it is shut.
func (m *Model) normalizeGate(in *instance) {
	if m.Without&(GateFailure|GateBound|GateShut) != 0 {
		return
	}
	if in.failed == 0 && in.shut == 0 && in.sent <= m.MaxStaleness {
		return
	}
	if in.failed != 0 {
		in.shut = 0
	}
	in.sent, in.doubt = m.never(), 0
	if !m.sets() {
		in.epoch = 0
	}
}

func (m *Model) sets() bool {
	for _, w := range m.Writes {
		if w.Kind == Set {
			return true
		}
	}
	return false
}

// normalizeWriter is for an instance that does not read.
func (m *Model) normalizeWriter(in *instance) {
	in.sent, in.failed, in.shut, in.doubt, in.grace, in.proof = 0, 0, 0, 0, 0, 0
	in.beat.age, in.beat.shut, in.beat.doubt, in.beat.graced, in.beat.kept = 0, 0, 0, 0, 0
	in.data = toMaster
	if !m.sets() {
		in.epoch, in.beat.epoch = 0, 0
	}
}

func noToken(p phase) bool { return p != asking && p != leased && p != filling }

// epochNames numbers epochs in the order in which they are met.
type epochNames struct {
	name [16]epoch
	next epoch
}

func (n *epochNames) rename(e *epoch) {
	if *e == 0 {
		return
	}
	if n.name[*e] == 0 {
		n.next++
		n.name[*e] = n.next
	}
	*e = n.name[*e]
}

func (n *epochNames) dataset(d *dataset) {
	n.rename(&d.epoch)
	n.rename(&d.valEpoch)
}
