package model

// check is a mutation and the configuration in which it must give a counterexample, or in which it must give none.
type check struct {
	without mutations
	config  string
	adapt   func(*Config)
}

// caught are the mechanisms without which the contract breaks.
var caught = []check{
	{without: StripeCompare, config: "flights"},
	{without: EarlyTicket, config: "flights"},
	{without: AgeFromTicket, config: "bound"},
	{without: AgeRule, config: "bound"},
	{without: FlushOnBegin, config: "bound, all"},
	{without: ForeignMessages, config: "bound"},
	{without: ProofAtSending, config: "bound"},
	{without: WriteAsProof, config: "failover"},
	{without: HitOrder, config: "slow hit"},
	{without: TokenInFill, config: "leases"},
	{without: OwnTokenInFill, config: "leases", adapt: func(c *Config) { c.Refreshes = 0 }},
	{without: TokenInRefresh, config: "leases"},
	{without: OwnerInRenewal, config: "leases"},
	{without: LeaseDeletion, config: "leases"},
	{without: OneScript, config: "bound", adapt: func(c *Config) { c.Starts, c.SlowBeats = 1, 0 }},
	{without: JoinVersion, config: "flights"},
	{without: JoinAge, config: "bound"},
	{without: JoinSession, config: "all"},
	{without: JoinDoubted, config: "bound, all"},
	{without: SecondEviction, config: "flights"},
	{without: LateSetRefused, config: "two writes"},
	{without: RetryAfterSet, config: "two writes"},
	{without: EarlierSet, config: "own writes"},
	{without: Retry, config: "strays"},
	{without: PendingBypass, config: "strays"},
	{without: GateBound, config: "bound, all"},
	{without: GateFailure, config: "failover, own"},
	{without: GateShut, config: "all"},
	{without: GateDoubt, config: "bound, all"},
	{without: TicketOfGate, config: "bound, all"},
	{without: TicketAtLook, config: "bound, all"},
	{without: CheckedControl, config: "failover, own"},
	{without: CheckedDial, config: "restart"},
	{without: ReadInLineage, config: "restart"},
	{without: Reset, config: "restart"},
	{without: Journal, config: "failover, own"},
	{without: JournalUntilSent, config: "failover, own", adapt: func(c *Config) { c.SlowBeats = 1 }},
	{without: JournalUnderway, config: "failover, own"},
	{without: NewcomerJournal, config: "newcomer", adapt: func(c *Config) { c.Newcomers = "A" }},
	{without: Renewal, config: "restart"},
	{without: OffsetTest, config: "failover, own"},
	{without: SecondOpinion, config: "failover"},
	{without: Grace, config: "failover"},
	{without: BeatAfterGrace, config: "failover"},
	{without: NewcomerGrace, config: "newcomer"},
}

// redundant are those without which it holds all the same; doc.go says what they are for.
var redundant = []check{
	{without: FirstEviction, config: "flights"},
	{without: FlushOnEnd, config: "bound, all"},
	{without: OwnMessages, config: "flights"},
	{without: OwnMessages, config: "strays"},
	{without: OwnMessages, config: "all"},
	{without: ClockAfterProof, config: "slow hit"},
	{without: EpochInFill, config: "bound, all"},
}

// model returns the model of c's mutation.
func (c check) model() *Model {
	for _, x := range Quick() {
		if x.Name != c.config {
			continue
		}
		if c.adapt != nil {
			c.adapt(&x)
		}
		x.Without = c.without
		return New(x, nil)
	}
	panic("model: no configuration " + c.config)
}
