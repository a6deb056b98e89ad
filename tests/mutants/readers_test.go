package mutants

// What callers are given.
var readers = []mutant{
	{
		name: "eviction: Ristretto is believed to have told what it has given up",
		file: "local/ticket.go",
		old:  "		s.drop(e) // Ristretto may have given it up, and not told yet: see change\n",
		new:  "",
		pkg:  "./local", run: "TestAnEvictionOfWhat",
	},
	{
		name: "eviction: a search is not locked out",
		file: "local/store.go",
		old:  "	defer s.change(hash)()\n	e, ok",
		new:  "	e, ok",
		pkg:  "./local", run: "TestChangesOfOneKey",
	},
	{
		name: "eviction: a put is not locked out",
		file: "local/store.go",
		old:  "	defer s.change(e.hash)()\n	return s.items.Set",
		new:  "	return s.items.Set",
		pkg:  "./local", run: "TestChangesOfOneKey",
	},
	{
		name: "eviction: it waits for Close with its key locked",
		file: "local/ticket.go",
		old:  "	s.writes.RLock() // before change, as in put: see writes\n	defer s.writes.RUnlock()\n	hash := s.hash(key)\n	defer s.change(hash)()\n",
		new:  "	hash := s.hash(key)\n	defer s.change(hash)()\n	s.writes.RLock()\n	defer s.writes.RUnlock()\n",
		pkg:  "./local", run: "TestWhoWaitsForClose",
	},
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
	{
		name: "gather: a call that is left out is told how the others' trip went",
		file: "tiered/gather.go",
		old:  "			call.done <- err\n			continue\n",
		new:  "			sent = append(sent, call)\n			continue\n",
		pkg:  "./tiered", run: "TestWhoIsLeftOutIsNotConfirmed",
	},
	{
		name: "session: the epoch is doubted after it has begun",
		file: "tiered/listener.go",
		old:  "	l.c.gate.doubt()\n	l.c.local.Begin()\n	l.c.untrusted.drop()\n",
		new:  "	l.c.local.Begin()\n	l.c.untrusted.drop()\n	l.c.gate.doubt()\n",
		pkg:  "./tiered", run: "TestC3AnInvalidateAllMissed",
	},
	{
		name: "batch: a part that exits takes the next ones with it",
		file: "tiered/get_many.go",
		old:  "part.Go(func() { g.guard(ms, func() { g.fetch(ms) }) })",
		new:  "g.guard(ms, func() { g.fetch(ms) })",
		pkg:  "./tiered", run: "TestAnExitInOnePartOfABatch",
	},
	{
		name: "close: it does not wait for writes on their way",
		file: "tiered/retry.go",
		old:  "	if !hasEnded(ctx, &c.writing) {\n",
		new:  "	if hasEnded(ctx, &c.background) && ctx == nil {\n",
		pkg:  "./tiered", run: "TestC6CloseWaitsForAWrite",
	},
	{
		name: "close: it waits for the logger, however long",
		file: "tiered/cache.go",
		old:  "		hasEnded(ctx, &c.background) // or a logger hangs\n",
		new:  "		c.background.Wait()\n",
		pkg:  "./tiered", run: "TestCloseBesideALogger",
	},
	{
		name: "close: an attempt to connect has all the time of a bus that nobody uses",
		file: "pubsub/receive.go",
		old:  "context.WithTimeout(b.ctx, b.greeting())",
		new:  "context.WithTimeout(b.ctx, silence(b.interval()))",
		pkg:  "./pubsub", run: "TestCloseAfterTheLast",
	},
}
