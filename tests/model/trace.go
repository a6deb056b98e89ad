package model

import (
	"fmt"
	"strings"
)

func instanceName(i uint8) string { return string(rune('A' + i)) }

var actionNames = map[Action]string{
	Tick: "tick", Start: "Get starts flight", Refresh: "Refresh starts flight", Join: "Get joins flight",
	Look: "looks at gate", WaitOver: "gives up waiting for the gate", Read: "GETs", ReadFails: "GET fails",
	Acquire: "acquires", AcquireFails: "acquire fails", AcquireUnheard: "acquires, reply lost",
	LeaseWaitOver: "waits no more", Renew: "renews", Load: "loads", Fill: "fills", FillFails: "fill fails",
	FillUnheard: "fills, reply lost", FillStrays: "gives up on its fill, which is on its way", Finish: "stores and returns",
	HitFind: "hit finds entry", HitSecond: "hit, 2nd reading", HitThird: "hit, 3rd reading", HitLast: "hit, last reading",
	Execute: "script runs", Return: "returns nil",
	WriteFails: "fails: ErrPending", WriteUnheard: "reply lost: ErrPending", WriteStrays: "gives up (ErrPending), script is on its way",
	Repeat: "repeats pending", Confirm: "repetition confirmed", StrayRuns: "stray request runs",
	Deliver: "hears message", Beat: "beats", BeatSent: "beats, reply on its way", BeatReply: "beat answered", BeatUnheard: "beat's reply lost",
	Connect: "new session", Notice: "session ends", Ping: "PINGs",
	Die: "subscription dies unnoticed", Crash: "crashes, restarts", Stall: "replication stalls", Failover: "failover",
	Restart: "restart from snapshot", EvictEntry: "entry evicted", EvictEpoch: "epoch evicted", LeaseExpires: "lease expires",
	RedialControl: "control dials anew", RedialData: "data dials anew",
}

// describe returns a step in words, such as "A GETs".
func (m *Model) describe(st Step) string {
	name := actionNames[st.Action]
	who := instanceName(st.I)
	switch st.Action {
	case Tick:
		return name
	case StrayRuns, Stall, Failover, Restart, EvictEntry, EvictEpoch, LeaseExpires:
		return name
	case Begin, Execute, Return, WriteFails, WriteUnheard, WriteStrays:
		kind := [...]string{"Invalidate", "Set", "InvalidateAll"}[m.Writes[st.J].Kind]
		if st.Action == Begin {
			name = "begins"
		}
		return fmt.Sprintf("%s.%s(v%d) %s", who, kind, m.versionOf(int(st.J)), name)
	case Start, Refresh, Deliver, Beat, BeatSent, BeatReply, BeatUnheard, Connect, Notice, Ping, Die, Crash, RedialControl, RedialData,
		Repeat, Confirm, HitFind, HitSecond, HitThird, HitLast:
		return who + " " + name
	default:
		if m.Flights > 1 {
			who += fmt.Sprint(st.J + 1)
		}
		return who + " " + name
	}
}

// Line is a way to a violation in one line.
func (m *Model) Line(r Result) string {
	words := make([]string, 0, len(r.Trace)+1)
	ticks := 0
	flush := func() {
		switch {
		case ticks == 1:
			words = append(words, "tick")
		case ticks > 1:
			words = append(words, fmt.Sprintf("%d ticks", ticks))
		}
		ticks = 0
	}
	for _, st := range r.Trace {
		if st.Action == Tick {
			ticks++
			continue
		}
		flush()
		words = append(words, m.describe(st))
	}
	flush()
	return strings.Join(words, "; ") + ": " + r.Violation
}
