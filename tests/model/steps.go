package model

import "strings"

// Action is what a step does; its instance, and its flight or write, are in the Step.
type Action uint8

// The actions: time; Get and Refresh; a hit, reading by reading; Set, Invalidate and InvalidateAll; the bus; the environment.
// doc.go says which function each stands for, actionNames what it is called in a counterexample.
const (
	Tick Action = iota

	Start
	Refresh
	Join
	Look
	WaitOver
	Read
	ReadFails
	Acquire
	AcquireFails
	AcquireUnheard
	LeaseWaitOver
	Renew
	Load
	Fill
	FillFails
	FillUnheard
	FillStrays
	Finish

	HitFind
	HitSecond
	HitThird
	HitLast

	Begin
	Execute
	Return
	WriteFails
	WriteUnheard
	WriteStrays
	Repeat
	Confirm
	StrayRuns

	Deliver
	Beat
	BeatSent
	BeatReply
	BeatUnheard
	Connect
	Notice
	Ping

	Die
	Crash
	Stall
	Failover
	Restart
	EvictEntry
	EvictEpoch
	LeaseExpires
	RedialControl
	RedialData
)

// Step is one atomic step.
type Step struct {
	Action Action
	I, J   uint8
}

// listSteps lists whatever can happen in the configuration at some time; apply says whether it can now.
func (m *Model) listSteps() {
	add := func(i, j int, actions ...Action) {
		for _, a := range actions {
			m.steps = append(m.steps, Step{Action: a, I: uint8(i), J: uint8(j)})
		}
	}
	add(0, 0, Tick, StrayRuns, EvictEntry, LeaseExpires)
	if m.EpochEvictions {
		add(0, 0, EvictEpoch)
	}
	if m.Failovers > 0 {
		add(0, 0, Stall, Failover)
		if m.Restarts {
			add(0, 0, Restart)
		}
	}
	if m.SlowHits > 0 {
		add(m.Instances-1, 0, HitFind, HitSecond, HitThird, HitLast)
	}
	for w, x := range m.Writes {
		add(int(x.By), w, Begin, Execute, Return, WriteFails, WriteUnheard, WriteStrays)
	}
	for i := range m.Instances {
		if strings.Contains(m.Crashers, instanceName(uint8(i))) {
			add(i, 0, Crash)
		}
		add(i, 0, Beat, Repeat, Confirm, RedialControl)
		if m.SlowBeats > 0 {
			add(i, 0, BeatSent, BeatReply, BeatUnheard)
		}
		if !m.reads[i] {
			continue
		}
		add(i, 0, Start, Refresh)
		if !m.Deaf {
			add(i, 0, Deliver, Connect, Notice, Die)
		}
		if m.Without.has(WriteAsProof) {
			add(i, 0, Ping)
		}
		if m.Without.has(CheckedDial) {
			add(i, 0, RedialData)
		}
		for j := range m.Flights {
			add(i, int(j), Join, Look, WaitOver, Read, ReadFails, Acquire, AcquireFails, AcquireUnheard, LeaseWaitOver, Renew,
				Load, Fill, FillFails, FillUnheard, FillStrays, Finish)
		}
	}
}

// apply makes the step in s, if it is possible now. A value that is returned to a reader who must not get it is left in
// m.violated.
func (m *Model) apply(s *state, st Step) bool {
	i, j := int(st.I), int(st.J)
	switch st.Action {
	case Tick, Die, Crash, Stall, Failover, Restart, EvictEntry, EvictEpoch, LeaseExpires, RedialControl, RedialData:
		return m.environment(s, st.Action, i)
	case Deliver, Beat, BeatSent, BeatReply, BeatUnheard, Connect, Notice, Ping:
		return m.bus(s, st.Action, i)
	case Begin, Execute, Return, WriteFails, WriteUnheard, WriteStrays:
		return m.writeStep(s, st.Action, j)
	case Repeat:
		return m.repeat(s, i)
	case Confirm:
		return m.confirm(s, i)
	case StrayRuns:
		return m.strayRuns(s)
	case Start, Refresh:
		return m.start(s, i, st.Action == Refresh)
	case HitFind, HitSecond, HitThird, HitLast:
		return m.slowHit(s, st.Action, i)
	default:
		return m.flightStep(s, st.Action, i, j)
	}
}

// spend counts a fault, if there is one left.
func spend(used *uint8, most uint8) bool {
	if *used >= most {
		return false
	}
	*used++
	return true
}
