package mutants

// What callers are given.
var readers = []mutant{
	{
		name: "clone: L1's own value is given out",
		file: "tiered/clone.go",
		old:  "if c.opts.Clone == nil || err != nil {",
		new:  "if c.opts.Clone != nil || err != nil {",
		pkg:  "./tiered", run: "TestAClonedValue",
	},
	{
		name: "peek: what is pending is believed",
		file: "tiered/peek.go",
		old:  "!o.open || c.pending.has(key) || ",
		new:  "!o.open || ",
		pkg:  "./tiered", run: "TestPeekAfterAWrite",
	},
}
