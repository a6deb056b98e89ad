package mutants

// What callers are given, and what strangers remove.
func init() {
	mutants = append(mutants,
		mutant{
			name: "clone: L1's own value is given out",
			file: "tiered/clone.go",
			old:  "if c.opts.Clone == nil || err != nil {",
			new:  "if c.opts.Clone != nil || err != nil {",
			pkg:  "./tiered", run: "TestAClonedValue",
		},
		mutant{
			name: "peek: what is pending is believed",
			file: "tiered/peek.go",
			old:  "!o.open || c.pending.has(key) || ",
			new:  "!o.open || ",
			pkg:  "./tiered", run: "TestPeekAfterAWrite",
		},
		mutant{
			name: "tracking: nothing is dropped that Redis does not have",
			file: "tiered/foreign.go",
			old:  "		return there.Value\n",
			new:  "		return true\n",
			pkg:  "./tiered", run: "TestAStrangersDelete",
		},
		mutant{
			name: "tracking: any lease stands for a load of ours",
			file: "tiered/foreign.go",
			old:  "return loading && ours == there.Lease && !f.c.local.Holds(key)",
			new:  "return loading || ours == nil",
			pkg:  "./tiered", run: "TestStrangersKeys",
		},
		mutant{
			name: "tracking: a load of ours is lost to its own lease",
			file: "tiered/foreign.go",
			old:  "return loading && ours == there.Lease && !f.c.local.Holds(key)",
			new:  "return false && ours != loading",
			pkg:  "./tiered", run: "TestAStrangersDelete",
		},
		mutant{
			name: "tracking: a key that is being read does not concern L1",
			file: "tiered/foreign.go",
			old:  "(!f.c.local.Holds(key) && !f.c.flights.has(key))",
			new:  "!f.c.local.Holds(key)",
			pkg:  "./tiered", run: "TestAStrangersDelete",
		},
		mutant{
			name: "tracking: a connection that is dead is kept",
			file: "pubsub/tracker.go",
			old:  "	patience := silence(t.opts.Interval)\n",
			new:  "	patience := 1000 * silence(t.opts.Interval)\n",
			pkg:  "./pubsub", run: "TestATrackerOnADead",
		},
		mutant{
			name: "tracking: what was missed is not made good",
			file: "pubsub/tracker.go",
			old:  "			t.opts.Missed()\n",
			new:  "",
			pkg:  "./pubsub", run: "TestATracker",
		},
	)
}
