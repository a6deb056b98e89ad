package model

import "strings"

// Kind is what a write is.
type Kind uint8

// The kinds of writes are the methods of tiered.Cache.
const (
	Invalidate Kind = iota
	Set
	InvalidateAll
)

// Write is one write of a configuration, and the instance that makes it.
type Write struct {
	By   uint8
	Kind Kind
}

// Config bounds a run: what happens in it, and how often each fault may.
type Config struct {
	Name         string
	Instances    int
	MaxStaleness uint8  // ticks
	Flights      uint8  // at a time for each reader, 1 or 2
	Readers      string // the instances that read, such as "AB"; the others have no L1 and need no subscription
	Writes       []Write
	Warm         bool // both tiers hold the first value from the start

	// SlowLooks lets something happen between a flight's ticket and its look at the gate; SlowBeats between a heartbeat and
	// its reply, that often. Otherwise each pair is one step.
	SlowLooks bool
	SlowBeats uint8

	Ticks, Starts, Refreshes                             uint8
	Deaths, Crashes, Failovers, Evictions, Leases, Trips uint8
	Deaf                                                 bool   // nobody gets a subscription
	Newcomers                                            string // the instances that have just started
	Crashers                                             string // the instances that crash
	EpochEvictions                                       bool
	Restarts                                             bool // a failover may be a restart from a snapshot
	SlowHits                                             uint8

	// Without is what is taken out.
	Without mutations
}

// Model is a configuration's transition system.
type Model struct {
	Config

	reads    [maxInstances]bool
	steps    []Step
	reached  *[situations]uint64
	violated string // by the step that was applied last
}

// New returns the model of c. reached counts situations, of several models if they are given the same.
func New(c Config, reached *[situations]uint64) *Model {
	m := &Model{Config: c, reached: reached}
	for i := range maxInstances {
		m.reads[i] = strings.Contains(c.Readers, instanceName(uint8(i)))
	}
	m.listSteps()
	return m
}

// initial is a fleet that has run for a while: every instance hears, has a good heartbeat, and nothing is cached. What
// starting up adds is reached by a crash.
func (m *Model) initial() state {
	var s state
	s.redis = dataset{val: none, epoch: 1, marked: 1, renewed: 1}
	if m.Warm {
		s.redis.val, s.redis.valEpoch = 0, s.redis.epoch
	}
	for i := range m.Instances {
		s.inst[i] = instance{held: none, epoch: 1, past: sameLineage}
		if m.reads[i] {
			if !m.Deaf {
				s.inst[i].link = alive
			}
			s.inst[i].held = s.redis.val
		}
		if strings.Contains(m.Newcomers, instanceName(uint8(i))) {
			s.inst[i] = m.newborn()
		}
	}
	m.normalize(&s)
	return s
}

// snapshot is what a replica has of d: whatever it says of lineages is of another server.
func snapshot(d dataset) dataset {
	d.marked, d.renewed = 0, 0
	return d
}

func (m *Model) never() uint8 { return m.MaxStaleness + 1 }

func (m *Model) versionOf(w int) version { return version(w + 1) }
