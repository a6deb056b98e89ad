package model

import "math/bits"

// mutations is a set of mechanisms that are taken out. Each constant names what is missing.
type mutations uint64

// The mechanisms, each with what happens without it.
const (
	StripeCompare    mutations = 1 << iota // L1 does not compare the ticket's version
	EarlyTicket                            // the ticket is taken when the value is stored
	AgeFromTicket                          // an entry's age counts from when it was stored
	AgeRule                                // an entry is served at any age
	FlushOnBegin                           // a session leaves L1 and the tickets as they are when it begins
	FlushOnEnd                             // ... when it ends
	ForeignMessages                        // messages do not evict
	OwnMessages                            // nor do those of the instance's own writes
	ProofAtSending                         // the proof's time is that of the heartbeat's return
	WriteAsProof                           // a PING is a proof
	HitOrder                               // a hit compares the version first and reads the proof last
	ClockAfterProof                        // a hit reads the clock before the proof
	TokenInFill                            // a fill does not look at the lease
	OwnTokenInFill                         // a fill is content with any lease
	TokenInRefresh                         // a refresh does not look at the lease
	EpochInFill                            // a fill does not look at the epoch
	OwnerInRenewal                         // a renewal brings a deleted lease back
	LeaseDeletion                          // an invalidation leaves the lease
	OneScript                              // the message is published before the change
	JoinVersion                            // a flight is joined also after an eviction
	JoinAge                                // ... at any age
	JoinSession                            // ... in another session
	JoinDoubted                            // ... on a proof that is younger than the epoch that it looks for
	FirstEviction                          // a write evicts only after its script
	SecondEviction                         // a write evicts only before its script
	LateSetRefused                         // a Set that was delayed stores
	RetryAfterSet                          // a Set that failed is repaired at once
	EarlierSet                             // a write is confirmed though an earlier Set of its writer may still arrive
	Retry                                  // an invalidation that failed is not repeated
	PendingBypass                          // L2 is believed about a pending key
	GateBound                              // L2 is believed however old the last heartbeat is
	GateFailure                            // ... though the last heartbeat failed
	GateShut                               // ... with the epoch of before the own InvalidateAll
	GateDoubt                              // ... with the epoch of before a message about all, or a session
	TicketOfGate                           // a ticket is not as old as the heartbeat that L2 is believed on
	TicketAtLook                           // ... as it was known when the flight started, not when it looked
	CheckedControl                         // a write goes to another Redis than L2 is read from, and the gate stays open
	CheckedDial                            // a new connection is read from before a heartbeat has seen where it leads
	ReadInLineage                          // an answer of L2 is believed that another Redis gave than the gate was open for
	Reset                                  // connections stay when the lineage has changed
	Journal                                // what a failover may have undone is not repeated
	JournalUntilSent                       // ... not what came after the heartbeat was sent and before it came back
	JournalUnderway                        // ... not what was under way when it was sent
	NewcomerJournal                        // ... not what was written before the first heartbeat
	Renewal                                // the epoch is kept whatever is missing
	OffsetTest                             // ... if the replid continues the old one, whatever offset it had
	SecondOpinion                          // who misses something believes the one who was first to find nothing missing
	Grace                                  // L2 is believed at once in a new lineage
	BeatAfterGrace                         // ... after the grace, on a heartbeat that was sent before its end
	NewcomerGrace                          // ... by instances that have just started
	lastMutation
)

var mutationNames = [...]string{
	"StripeCompare", "EarlyTicket", "AgeFromTicket", "AgeRule", "FlushOnBegin", "FlushOnEnd", "ForeignMessages", "OwnMessages",
	"ProofAtSending", "WriteAsProof", "HitOrder", "ClockAfterProof", "TokenInFill", "OwnTokenInFill", "TokenInRefresh",
	"EpochInFill", "OwnerInRenewal", "LeaseDeletion", "OneScript", "JoinVersion", "JoinAge", "JoinSession", "JoinDoubted", "FirstEviction",
	"SecondEviction", "LateSetRefused", "RetryAfterSet", "EarlierSet", "Retry", "PendingBypass", "GateBound", "GateFailure", "GateShut",
	"GateDoubt", "TicketOfGate", "TicketAtLook", "CheckedControl", "CheckedDial", "ReadInLineage", "Reset", "Journal", "JournalUntilSent", "JournalUnderway", "NewcomerJournal", "Renewal",
	"OffsetTest", "SecondOpinion", "Grace", "BeatAfterGrace", "NewcomerGrace",
}

func (m mutations) has(x mutations) bool { return m&x != 0 }

// String returns the name of one mutation.
func (m mutations) String() string {
	if i := bits.TrailingZeros64(uint64(m)); i < len(mutationNames) {
		return mutationNames[i]
	}
	return "nothing"
}
