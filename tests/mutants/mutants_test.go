package mutants

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// mutant is a mechanism, how to remove it, and the test that must notice.
type mutant struct {
	name     string
	file     string
	old, new string
	pkg, run string
}

var mutants = []mutant{
	{
		name: "audit: what is older in Redis counts",
		file: "tiered/audit.go",
		old:  "	if same || env.Created <= o.latest(e.At()) {\n",
		new:  "	if same {\n",
		pkg:  "./tiered", run: "TestAuditOfWhatIsYounger",
	},
	{
		name: "audit: it does not wait for MaxStaleness",
		file: "tiered/audit.go",
		old:  "		if mono.Now()-s.at <= int64(c.opts.MaxStaleness) {\n",
		new:  "		if mono.Now() < s.at {\n",
		pkg:  "./tiered", run: "TestAudit",
	},
	{
		name: "audit: it does not ask whether the entry is served",
		file: "tiered/audit.go",
		old:  "		if c.local.Serves(s.entry) {\n",
		new:  "		if s.entry != nil {\n",
		pkg:  "./tiered", run: "TestAuditWhile",
	},
	{
		name: "observer: a panic of its is not contained",
		file: "tiered/watch.go",
		old:  "		if p := recover(); p != nil {\n",
		new:  "		if p := error(nil); p != nil {\n",
		pkg:  "./tiered", run: "TestObserverThatPanics",
	},
	{
		name: "observer: what is heard waits for it",
		file: "tiered/watch.go",
		old:  "	default:\n		w.dropped.Add(1)\n	}\n}\n",
		new:  "	}\n}\n",
		pkg:  "./tiered", run: "TestObserverThatBlocks",
	},
	{
		name: "observer: what it carries is not looked at",
		file: "pubsub/sender.go",
		old:  "	if text == \"\" || len(text) > MaxCarried {\n",
		new:  "	if text == \"\" {\n",
		pkg:  "./pubsub", run: "TestSender|TestASender",
	},
	{
		name: "untrusted time: the end of a session is not one",
		file: "tiered/untrusted.go",
		old:  "	u.until = min(u.until, now)\n",
		new:  "",
		pkg:  "./tiered", run: "TestUntrustedTimeAnd",
	},
	{
		name: "lease: the fill does not look at the token",
		file: "remote/scripts/fill.lua",
		old:  "if type(lease) ~= 'string' or string.sub(lease, -32) ~= ARGV[4] then\n  return 0\nend",
		new:  "lease = ''",
		pkg:  "./tiered", run: "TestC4",
	},
	{
		name: "lease: any token is accepted",
		file: "remote/scripts/fill.lua",
		old:  "if type(lease) ~= 'string' or string.sub(lease, -32) ~= ARGV[4] then",
		new:  "if type(lease) ~= 'string' then",
		pkg:  "./tiered", run: "TestC4AnOldLoadAgainstANewLease",
	},
	{
		name: "lease: the fill does not look at the epoch",
		file: "remote/scripts/fill.lua",
		old:  "if type(epoch) == 'string' and string.sub(epoch, 1, 17) == ARGV[7] .. ':' then",
		new:  "do",
		pkg:  "./tiered", run: "TestC4AnOldLoadLeavesNothingBehind/InvalidateAll",
	},
	{
		name: "lease: a renewal brings a deleted lease back",
		file: "remote/scripts/renew.lua",
		old:  "if type(lease) ~= 'string' or string.sub(lease, -32) ~= ARGV[2] then\n  return 0\nend",
		new:  "",
		pkg:  "./remote", run: ".",
	},
	{
		name: "lease: Invalidate keeps it",
		file: "remote/scripts/invalidate.lua",
		old:  "local n = redis.call('UNLINK', unpack(KEYS))",
		new: "local n = 0\nfor _, key in ipairs(KEYS) do\n  for _, field in ipairs(redis.call('HKEYS', key)) do\n" +
			"    if string.sub(field, -2) ~= '.l' then redis.call('HDEL', key, field) end\n  end\nend",
		pkg: "./tiered", run: "TestC4",
	},
	{
		name: "ticket: it is not compared once the entry is there",
		file: "local/store.go",
		old:  "	if slot.version.Load() != version {\n",
		new:  "	if slot == nil {\n",
		pkg:  "./local", run: "TestAnEvictionDuringPut|TestNobodyIsServed",
	},
	{
		name: "entry: it is served before its ticket was compared",
		file: "local/store.go",
		old:  "e.state.Load() == live &&",
		new:  "e.state.Load() != gone &&",
		pkg:  "./local", run: "TestNobodyIsServed",
	},
	{
		name: "entry: an eviction leaves it where it is",
		file: "local/ticket.go",
		old:  "	s.release(hash)\n",
		new:  "",
		pkg:  "./tiered", run: "TestC2|TestC3",
	},
	{
		name: "ticket: it is taken when the value is stored",
		file: "tiered/fetch.go",
		old:  "c.local.PutAging(f.key, v, absent, f.ticket, life, f.due)",
		new:  "c.local.PutAging(f.key, v, absent, c.local.Ticket(f.key), life, f.due)",
		pkg:  "./tiered", run: "TestAnOldReadFromRedisDoesNotEnterL1|TestC2",
	},
	{
		name: "ticket: entries of an earlier session are served",
		file: "local/store.go",
		old:  "e.state.Load() == live && s.current.Load() == e.ticket.session",
		new:  "e.state.Load() == live",
		pkg:  "./local", run: ".",
	},
	{
		name: "order of a hit: the state before the proof",
		file: "local/store.go",
		old:  "	proof := e.ticket.session.proof.Load()\n	now = s.now()\n	return now, now-max(e.ticket.at, proof) <= s.maxStaleness && now < e.expires &&\n		e.state.Load() == live &&",
		new:  "	isLive := e.state.Load() == live\n	now = s.now()\n	return now, now-max(e.ticket.at, e.ticket.session.proof.Load()) <= s.maxStaleness && now < e.expires &&\n		isLive &&",
		pkg:  "./local", run: "TestTheOrderOfAHit",
	},
	{
		name: "slot: it shows what Ristretto has given up",
		file: "local/store.go",
		old:  "	e.state.Store(gone)\n",
		new:  "",
		pkg:  "./local", run: "TestASlot",
	},
	{
		name: "slot: it keeps what Ristretto has given up",
		file: "local/store.go",
		old:  "	s.slots.of(e.hash).entry.CompareAndSwap(e, nil)\n",
		new:  "",
		pkg:  "./local", run: "TestASlot",
	},
	{
		name: "uses: Ristretto is told of none",
		file: "local/use.go",
		old:  "	told.Store(n + 1)\n	return true\n",
		new:  "	return false\n",
		pkg:  "./local", run: "TestUses|TestRistrettoIsTold",
	},
	{
		name: "age: an entry without proof is served until it expires",
		file: "local/store.go",
		old:  "	return now, now-max(e.ticket.at, proof) <= s.maxStaleness && now < e.expires",
		new:  "	_ = proof\n	return now, now < e.expires",
		pkg:  "./local", run: "TestTheAgeRule",
	},
	{
		name: "age: it counts from the moment of storing",
		file: "local/store.go",
		old:  "	e.hash, e.key, e.ticket = s.hash(key), key, t.stamp\n",
		new:  "	t.at = mono.Now()\n	e.hash, e.key, e.ticket = s.hash(key), key, t.stamp\n",
		pkg:  "./local", run: "TestWithoutASessionAgeCountsFromTheTicket",
	},
	{
		name: "session: one session's proof vouches for another's entries",
		file: "local/session.go",
		old:  "	s.current.Store(newSession(proof(s.current.Load())))",
		new:  "	s.current.Load().proof.Store(proof(s.current.Load()))",
		pkg:  "./local", run: ".",
	},
	{
		name: "flights: an eviction does not detach",
		file: "tiered/write.go",
		old:  "		c.flights.detach(key)\n",
		new:  "",
		pkg:  "./tiered", run: "TestC2|TestC4|TestAnOldRead",
	},
	{
		name: "flights: joined at any age",
		file: "tiered/flight.go",
		old:  "if !old.started || (!n.refresh && f.live(old.ticket)) {",
		new:  "if !old.started || !n.refresh {",
		pkg:  "./tiered", run: "TestC3AnOldFlightIsNotJoined",
	},
	{
		name: "flights: a refresh joins a load that has read",
		file: "tiered/flight.go",
		old:  "if !old.started || (!n.refresh && f.live(old.ticket)) {",
		new:  "if !old.started || f.live(old.ticket) {",
		pkg:  "./tiered", run: "TestRefreshDoesNotJoinAnOlderLoad",
	},
	{
		name: "flights: without a bound",
		file: "tiered/flight.go",
		old:  "if l.running < maxRunning {",
		new:  "if l.running < 1000 {",
		pkg:  "./tiered", run: "TestFlightsOfAHotWrittenKeyAreBounded",
	},
	{
		name: "writes: Invalidate does not evict after the script",
		file: "tiered/write.go",
		old:  "	c.evict(keys...)\n	if failed != nil {",
		new:  "	if failed != nil {",
		pkg:  "./tiered", run: "TestC2",
	},
	{
		name: "writes: Set does not evict after the script",
		file: "tiered/write.go",
		old:  "	c.evict(key) // the one that counts: see Invalidate\n",
		new:  "",
		pkg:  "./tiered", run: "TestC2",
	},
	{
		name: "writes: InvalidateAll does not shut the gate",
		file: "tiered/write.go",
		old:  "	c.gate.shut()\n",
		new:  "",
		pkg:  "./tiered", run: "TestInvalidateAll|TestC4AnOldLoadLeavesNothingBehind",
	},
	{
		name: "writes: nothing is repeated",
		file: "tiered/pending.go",
		old:  "	p.changedLocked()\n}\n\n// addAll makes",
		new:  "	p.keys = map[string]due{}\n}\n\n// addAll makes",
		pkg:  "./tiered", run: "TestC6",
	},
	{
		name: "writes: L2 is believed about a pending key",
		file: "tiered/fetch.go",
		old:  "case c.pending.has(f.key):",
		new:  "case false:",
		pkg:  "./tiered", run: "TestC6",
	},
	{
		name: "writes: a late Set stores",
		file: "remote/scripts/set.lua",
		old:  "if t[1] * 1000 + math.floor(t[2] / 1000) > tonumber(ARGV[7]) then",
		new:  "if false then",
		pkg:  "./tiered", run: "TestALateSetOnlyInvalidates",
	},
	{
		name: "gate: L2 is believed whatever the heartbeat says",
		file: "tiered/gate.go",
		old:  "	o.open = now-g.last.sent <= g.bound && g.last.sent >= g.grace\n",
		new:  "	o.open = now > 0 && g.last.sent >= g.grace\n",
		pkg:  "./tiered", run: "TestGate",
	},
	{
		name: "gate: a failed heartbeat does not close it",
		file: "tiered/gate.go",
		old:  "	if g.failed != nil {\n		return o\n	}\n",
		new:  "",
		pkg:  "./tiered", run: "TestGate",
	},
	{
		name: "batch: L2 is believed about a pending key",
		file: "tiered/group.go",
		old:  "		if c.pending.has(m.key) {\n",
		new:  "		if false {\n",
		pkg:  "./tiered", run: "TestC6ABatchWithAPendingKey",
	},
	{
		name: "batch: what is loaded of a pending key is kept",
		file: "tiered/group.go",
		old:  "			m.keep = nowhere\n			doubtful",
		new:  "			doubtful",
		pkg:  "./tiered", run: "TestC6ABatchWithAPendingKey",
	},
	{
		name: "batch: what was read while the server changed is believed",
		file: "tiered/group.go",
		old:  "		case err != nil, !same:\n",
		new:  "		case err != nil, !same && false:\n",
		pkg:  "./tiered", run: "TestABatchDuringAMove",
	},
	{
		name: "batch: leases that were asked for while the server changed are believed",
		file: "tiered/group.go",
		old:  "		if err != nil || !same {\n",
		new:  "		if err != nil || (!same && false) {\n",
		pkg:  "./tiered", run: "TestABatchDuringAMove",
	},
	{
		name: "batch: its flights are older than the heartbeat that it believes",
		file: "tiered/group.go",
		old:  "		c.flights.believe(m.flight, g.open)\n",
		new:  "",
		pkg:  "./tiered", run: "TestABatchIsAsOld",
	},
	{
		name: "batch: the fills do not use the lease's token",
		file: "tiered/group_load.go",
		old:  "Key: m.key, Token: m.lease.Token, Envelope: bytes",
		new:  "Key: m.key, Token: remote.NewToken(), Envelope: bytes",
		pkg:  "./tiered", run: "TestGetManyFillsBothTiers",
	},
	{
		name: "batch: the fills carry the epoch of now",
		file: "tiered/group_load.go",
		old:  "TTL: keep, Epoch: m.lease.Epoch,",
		new:  "TTL: keep, Epoch: c.gate.look().epoch,",
		pkg:  "./tiered", run: "TestC4ANewEpochDuringABulkLoad",
	},
	{
		name: "batch: a lease that was lost is not noticed",
		file: "tiered/group_load.go",
		old:  "			flying[i].lost.Store(true)\n",
		new:  "			_ = i\n",
		pkg:  "./tiered", run: "TestALeaseOfABatchThatIsLost",
	},
	{
		name: "batch: a lost lease's value is stored",
		file: "tiered/group_load.go",
		old:  "		case m.lost.Load():\n",
		new:  "		case false:\n",
		pkg:  "./tiered", run: "TestALeaseOfABatchThatIsLost",
	},
	{
		name: "batch: leases of a load that failed are kept",
		file: "tiered/group_load.go",
		old:  "	g.release(useless)\n",
		new:  "",
		pkg:  "./tiered", run: "TestABulkLoadThatFails",
	},
	{
		name: "batch: the loader's map is read after it was late",
		file: "tiered/group_load.go",
		old:  "		if m.loaded.err = err; err != nil {",
		new:  "		if m.loaded.err = err; err != nil && got == nil {",
		pkg:  "./tiered", run: "TestABulkLoadThatFails/error",
	},
	{
		name: "batch: a part that waits holds the others up",
		file: "tiered/group.go",
		old:  "	wg.Go(func() { own.guard(ms, func() { f(own, ms) }) })\n",
		new:  "	_ = wg\n	own.guard(ms, func() { f(own, ms) })\n",
		pkg:  "./tiered", run: "TestAPartOfABatchDoesNotHold",
	},
	{
		name: "batch: nobody is told of the leases that it waits for",
		file: "tiered/group.go",
		old:  "		c.waiters.listen(m.key, heard) // before the lease",
		new:  "		// before the lease",
		pkg:  "./tiered", run: "TestC1OneLoadOfEachKeyOfABatch",
	},
	{
		name: "batch: a queued flight is run with the others",
		file: "tiered/flight.go",
		old:  "		n.byCaller = false // nobody",
		new:  "		// nobody",
		pkg:  "./tiered", run: "TestABatchWithAFlightThatIsQueued",
	},
	{
		name: "batch: a part has a budget of its own",
		file: "tiered/group.go",
		old:  "	budget := *g.budget\n",
		new:  "	budget := *g.c.newBudget()\n",
		pkg:  "./tiered", run: "TestC5APartOfABatch",
	},
	{
		name: "batch: a late SetMany stores",
		file: "tiered/set_many.go",
		old:  "	notAfter := t.atLeast() + c.opts.RedisTimeout.Milliseconds() - 1\n",
		new:  "	notAfter := t.atLeast() + 1000*c.opts.RedisTimeout.Milliseconds()\n",
		pkg:  "./tiered", run: "TestALateSetManyOnlyInvalidates",
	},
	{
		name: "batch: SetMany does not evict after the scripts",
		file: "tiered/set_many.go",
		old:  "	c.evict(keys...) // the one that counts\n",
		new:  "",
		pkg:  "./tiered", run: "TestC2TheEvictionAfterSetMany",
	},
	{
		name: "batch: what SetMany could not write is not repeated",
		file: "tiered/set_many.go",
		old:  "		c.pending.add(e.Keys, latest)\n",
		new:  "		_ = latest\n",
		pkg:  "./tiered", run: "TestC6AnUnconfirmedSetMany",
	},
	{
		name: "breaker: it never opens",
		file: "tiered/breaker.go",
		old:  "	b.rest = firstRest\n",
		new:  "	b.failures = 0\n",
		pkg:  "./tiered", run: "TestReadsThatHangOpenTheBreaker",
	},
	{
		name: "loads: without a bound while Redis is away",
		file: "tiered/fetch.go",
		old:  "	if err := c.loadSlot(); err != nil {\n		var zero V\n		return zero, err\n	}\n",
		new:  "	if c.slots != nil {\n		c.slots = make(chan struct{}, 1000)\n		c.slots <- struct{}{}\n	}\n",
		pkg:  "./tiered", run: "TestMaxLoads",
	},
	{
		name: "listener: messages are not applied",
		file: "tiered/listener.go",
		old:  "			c.evict(key)\n",
		new:  "",
		pkg:  "./tiered", run: "TestAnInvalidationReachesEveryInstance|TestAForeignInvalidation",
	},
	{
		name: "listener: an unreadable message is ignored",
		file: "tiered/listener.go",
		old:  "	l.flush()\n	l.c.spawn",
		new:  "	l.c.spawn",
		pkg:  "./tiered", run: "TestAnUnreadableMessageDropsL1",
	},
	{
		name: "bus: the proof is timed at receipt",
		file: "pubsub/receive.go",
		old:  "			b.prove(at, joined)\n",
		new:  "			b.prove(at+1<<40, joined)\n",
		pkg:  "./pubsub", run: "TestProofIsTimedWhenTheHeartbeatWasSent",
	},
	{
		name: "bus: a channel that is not confirmed is proven",
		file: "pubsub/receive.go",
		old:  "		if !c.confirmed {\n			continue\n		}\n",
		new:  "",
		pkg:  "./pubsub", run: "TestAnotherChannelHasNoProofBeforeItsOwnConfirmation",
	},
	{
		name: "bus: the heartbeat is no write",
		file: "pubsub/scripts/beat.lua",
		old:  "redis.call('DEL', KEYS[1])\nlocal t",
		new:  "local t",
		pkg:  "./pubsub", run: "TestBeatScript",
	},
	{
		name: "bus: a heartbeat that expects nothing new does not look at the versions",
		file: "pubsub/scripts/steady.lua",
		old:  "if redis.pcall('GET', KEYS[i]) ~= ARGV[i + 3] then return '' end",
		new:  "",
		pkg:  "./pubsub", run: "SomethingElseIsSilent|TestSteadyHeartbeats",
	},
	{
		name: "bus: a heartbeat that expects nothing new does not look at the server",
		file: "pubsub/scripts/steady.lua",
		old:  "if not at then return '' end",
		new:  "at = at or 0",
		pkg:  "./pubsub", run: "SomethingElseIsSilent",
	},
	{
		name: "bus: a heartbeat that expects nothing new is no write",
		file: "pubsub/scripts/steady.lua",
		old:  "redis.call('DEL', KEYS[1])\nlocal",
		new:  "local",
		pkg:  "./pubsub", run: "TestASteadyHeartbeat",
	},
	{
		name: "bus: a lost session is not ended",
		file: "pubsub/receive.go",
		old:  "				member.Handler.End(reason)\n",
		new:  "				_ = member\n",
		pkg:  "./pubsub", run: "TestCloseTellsTheMembers",
	},
	{
		name: "failover: confirmed invalidations are not repeated",
		file: "tiered/moved.go",
		old:  "	if len(keys) > 0 {\n		c.pending.add(keys, time.Now())\n",
		new:  "	if len(keys) > 1<<30 {\n		c.pending.add(keys, time.Now())\n",
		pkg:  "./tests/integration", run: "TestAFailoverThatLosesAConfirmedInvalidation",
	},
	{
		name: "failover: what was sent before the last heartbeat is remembered no longer, nor is what came after",
		file: "tiered/journal.go",
		old:  "j.records[n].at < sent {",
		new:  "j.records[n].at < 1<<60 {",
		pkg:  "./tiered", run: "TestJournal",
	},
	{
		name: "failover: Redis is believed before others could repeat theirs",
		file: "tiered/gate.go",
		old:  "&& g.last.sent >= g.grace\n",
		new:  "\n",
		pkg:  "./tiered", run: "TestGateWaits",
	},
	{
		name: "failover: reads go to whatever server answers",
		file: "tiered/verify.go",
		old:  "		return fmt.Errorf(\"%w: no heartbeat has told which one it is\", errNotTheServer)\n",
		new:  "		return nil\n",
		pkg:  "./tests/integration", run: "Failover|Snapshot",
	},
	{
		name: "failover: a server that lacks writes keeps its version",
		file: "pubsub/scripts/beat.lua",
		old:  "      lost = not moved\n",
		new:  "      lost = false\n",
		pkg:  "./pubsub", run: "TestARestart|TestAPromotedReplicaThatMissed",
	},
	{
		name: "failover: connections to a demoted master are kept",
		file: "pubsub/history.go",
		old:  "			b.leaveServer()\n		}\n		return false\n",
		new:  "		}\n		return false\n",
		pkg:  "./pubsub", run: "TestTheBusFollows|TestWhoWasReached",
	},
	{
		name: "failover: what was read while the server changed is believed",
		file: "tiered/gate.go",
		old:  "	return g.moves == o.move\n",
		new:  "	return g.moves >= o.move\n",
		pkg:  "./tiered", run: "TestAReadDuringAMove",
	},
	{
		name: "failover: a flight is older than the heartbeat that it believes",
		file: "tiered/flight.go",
		old:  "	n.ticket = n.ticket.NotAfter(o.sent)\n",
		new:  "",
		pkg:  "./tiered", run: "TestAFlightIsAsOld",
	},
	{
		name: "bytes: a length is believed",
		file: "internal/redisclient/frames.go",
		old:  "if most := f.maxBulk.Load(); n > most {",
		new:  "if most := f.maxBulk.Load(); n > most<<40 {",
		pkg:  "./internal/redisclient", run: "TestFrames",
	},
	{
		name: "envelope: no checksum",
		file: "remote/envelope.go",
		old:  "if binary.BigEndian.Uint64(b[offChecksum:]) != checksum(b, key) {",
		new:  "if false {",
		pkg:  "./remote", run: ".",
	},
	{
		name: "envelope: it may be copied to another key",
		file: "remote/envelope.go",
		old:  "	_, _ = d.WriteString(key)\n",
		new:  "",
		pkg:  "./remote", run: ".",
	},
	{
		name: "schema: entries of another type are decoded",
		file: "tiered/codec.go",
		old:  "Type: codec.Fingerprint(c, reflect.TypeFor[V]())",
		new:  "Type: 1 + 0*codec.Fingerprint(c, reflect.TypeFor[V]())",
		pkg:  "./tiered", run: "TestTwoTypes",
	},
}

func TestEveryMechanismIsMissed(t *testing.T) {
	if os.Getenv("TANDEM_MUTANTS") == "" {
		t.Skip("TANDEM_MUTANTS is not set: this takes minutes")
	}
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	for _, m := range slices.Concat(mutants, aging, acknowledgements, tags, readers) {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			overlay := write(t, root, m)
			out, err := goTest(root, "-overlay", overlay, "-count=1", "-failfast", "-timeout=120s", "-run", m.run, m.pkg)
			require.NotContains(t, out, "[build failed]", "a mutant must compile")
			require.NotContains(t, out, "no tests to run")
			require.Error(t, err, "nothing failed without it")
			t.Logf("noticed by %s", failed(out))
		})
	}
}

// The texts must be there also where the mutants do not run.
func TestEveryMutantAppliesOnce(t *testing.T) {
	t.Parallel()
	for _, m := range slices.Concat(mutants, aging, acknowledgements, tags, readers) {
		source, err := os.ReadFile(filepath.Join("../..", m.file))
		require.NoError(t, err)
		require.Equal(t, 1, strings.Count(string(source), m.old), "%s: its text in %s", m.name, m.file)
	}
}

func write(t *testing.T, root string, m mutant) (overlay string) {
	t.Helper()
	path := filepath.Join(root, m.file)
	source, err := os.ReadFile(path)
	require.NoError(t, err)
	dir := t.TempDir()
	changed := filepath.Join(dir, filepath.Base(m.file))
	require.NoError(t, os.WriteFile(changed, []byte(strings.Replace(string(source), m.old, m.new, 1)), 0o600))
	plan, err := json.Marshal(map[string]any{"Replace": map[string]string{path: changed}})
	require.NoError(t, err)
	overlay = filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(overlay, plan, 0o600))
	return overlay
}

func goTest(dir string, args ...string) (string, error) {
	cmd := exec.Command("go", append([]string{"test"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// failed returns the names of the tests that failed.
func failed(out string) string {
	var names []string
	for line := range strings.Lines(out) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "--- FAIL: "); ok {
			name, _, _ = strings.Cut(name, " ")
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "the run as a whole: " + out[max(0, len(out)-300):]
	}
	return strings.Join(names, ", ")
}
