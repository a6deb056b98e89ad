package mutants

// acknowledgements are the mechanisms of InvalidateAndWait.
var acknowledgements = []mutant{
	{
		name: "acknowledgements: whoever hears is all there are",
		file: "pubsub/settle.go",
		old:  "n >= len(a.instances) && len(q.missing(one, a)) == 0",
		new:  "n > 0",
		pkg:  "./pubsub", run: "TestSettleWaitsForOneThatDoesNotHear",
	},
	{
		name: "acknowledgements: whoever is registered is all there are",
		file: "pubsub/settle.go",
		old:  "return a.strangers <= 0 && ",
		new:  "return ",
		pkg:  "./pubsub", run: "TestSettleWaitsForAnOlderRelease",
	},
	{
		name: "acknowledgements: a registry counts however young",
		file: "pubsub/settle.go",
		old:  "rest := own.since + int64(t.Bound)",
		new:  "rest := own.since",
		pkg:  "./pubsub", run: "TestSettleSoonAfterRegistering|TestSettleAfterTheRegistryWasLost",
	},
	{
		name: "acknowledgements: a registry counts that does not have who asks",
		file: "pubsub/scripts/ask.lua",
		old:  "if redis.pcall('HGET', KEYS[2], ARGV[3]) ~= ARGV[4] then return {} end\n",
		new:  "",
		pkg:  "./pubsub", run: "TestSettleAfterTheRegistryWasLost",
	},
	{
		name: "acknowledgements: a registry counts on any server",
		file: "pubsub/scripts/ask.lua",
		old:  "not string.find(info, ARGV[5], 1, true)",
		new:  "false",
		pkg:  "./pubsub", run: "TestBeatScript",
	},
	{
		name: "acknowledgements: a server that takes over has everybody's registration",
		file: "pubsub/registers.go",
		old:  "			r.of[key] = register{word: one.word, since: report.Received}\n",
		new:  "			r.of[key] = one\n",
		pkg:  "./pubsub", run: "TestRegisters",
	},
	{
		name: "acknowledgements: a mark does not say when",
		file: "pubsub/scripts/ask.lua",
		old:  "      out[2] = math.max(out[2], left)\n",
		new:  "",
		pkg:  "./pubsub", run: "TestAMarkSaysWhen",
	},
	{
		name: "acknowledgements: they precede what was published before",
		file: "pubsub/receive.go",
		old:  "	for {\n		m, err := s.receive()\n		if err != nil {\n			return explainPermission(err)\n		}\n		if err := s.apply(m); err != nil {\n			return err\n		}\n",
		new: "	queue := make(chan any, 1000)\n	defer close(queue)\n	go func() {\n		for m := range queue {\n			_ = s.apply(m)\n		}\n	}()\n" +
			"	for {\n		m, err := s.receive()\n		if err != nil {\n			return err\n		}\n		if x, ok := m.(*redis.Message); ok {\n" +
			"			if q, err := Parse(x.Payload); err == nil && q.Op == Ask {\n				b.acknowledge(q)\n				continue\n			}\n		}\n		queue <- m\n",
		pkg: "./pubsub", run: "TestAnAcknowledgementFollows",
	},
	{
		name: "acknowledgements: a steady heartbeat proves what is not registered",
		file: "pubsub/scripts/steady.lua",
		old:  "  if redis.pcall('HGET', KEYS[i], ARGV[last + 4]) ~= ARGV[i + 4] then return '' end\n",
		new:  "",
		pkg:  "./pubsub", run: "TestSteadyHeartbeatsRegister",
	},
	{
		name: "acknowledgements: a heartbeat proves for members that it has not registered",
		file: "pubsub/receive.go",
		old:  "member.Registry != \"\" && member.place > joined",
		new:  "member.place > joined+1000",
		pkg:  "./pubsub", run: "TestAHeartbeatFromBefore",
	},
	{
		name: "acknowledgements: what was read without proof is served",
		file: "tiered/cache.go",
		old:  "return t.Unaged()",
		new:  "return t",
		pkg:  "./tiered", run: "TestWhoWasGivenUp",
	},
	{
		name: "acknowledgements: one that serves is taken out of the registry",
		file: "tiered/cache.go",
		old:  "		c.exit()\n		c.local.Close()\n		c.resign() // now that nothing is served any more\n",
		new:  "		c.resign()\n		c.exit()\n		c.local.Close()\n",
		pkg:  "./tiered", run: "TestNothingIsServedAfterResigning",
	},
}
