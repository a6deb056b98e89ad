package remote

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/partition"
	"github.com/tandemcache/tandem/tests/redisserver"
)

func TestPartitions(t *testing.T) {
	t.Parallel()
	c := redisserver.RunCluster(t, redisserver.ClusterOptions{Masters: 2, Replicas: -1})
	for name, test := range map[string]func(*divided){
		"each call in several":        eachCallInSeveral,
		"batches mix them":            batchesMixThem,
		"reads share a round trip":    readsShareATrip,
		"InvalidateAll of some":       invalidateAllOfSome,
		"InvalidateTags of some":      invalidateTagsOfSome,
		"elsewhere":                   elsewhere,
		"keys of several in one call": keysOfSeveralInOneCall,
		"the slot is handed over":     func(d *divided) { handedOver(d, c) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(newDivided(t, c))
		})
	}
}

// handed is the number among a node's partitions of the one whose slot is handed over; other tests leave it alone.
const handed = 7

func eachCallInSeveral(d *divided) {
	s := d.tagged()
	epochs := map[uint64]bool{}
	for _, p := range d.here[:3] {
		k, inbox, channel := d.in(p, "k"), d.inbox(p), d.keys.Channel(p, db)
		ears := d.listen(append([]string{inbox}, channels(d.keys, d.here)...)...)
		token := NewToken()
		l, err := s.Acquire(d.ctx(), k, token, Wanted, ttl, inbox)
		require.NoError(d, err)
		require.Equal(d, Acquired, l.Outcome)
		epochs[l.Epoch] = true
		require.Equal(d, EpochText(l.Epoch)+":+", d.epoch(p))
		held, err := s.Acquire(d.ctx(), k, NewToken(), Wanted, ttl, inbox)
		require.NoError(d, err)
		require.Equal(d, Held, held.Outcome)
		renewed, err := s.Renew(d.ctx(), k, token, ttl)
		require.NoError(d, err)
		require.True(d, renewed)

		b := d.envelope(k, l, "red", "{blue}")
		fill := Filling{Key: k, Token: token, Envelope: b, TTL: ttl, Epoch: l.Epoch, AsOf: l.AsOf, Wake: []byte("filled")}
		stored, err := s.FillWith(d.ctx(), fill)
		require.NoError(d, err)
		require.True(d, stored)
		require.Equal(d, []string{inbox + " filled"}, ears.heard())
		require.Equal(d, b, d.get(k))
		require.True(d, d.exists("tandem:"+d.keys.name+":{"+d.table.Tag(p)+"}:k:"+k))
		require.True(d, d.exists(d.keys.Tag(p, "{blue}")))

		late := d.now() + time.Minute.Milliseconds()
		stored, err = s.Set(d.ctx(), k, b, ttl, l.Epoch, late, []byte("set"))
		require.NoError(d, err)
		require.True(d, stored)
		require.Equal(d, b, d.get(k))
		stored, err = s.Set(d.ctx(), k, b, ttl, l.Epoch+1, late, []byte("set"))
		require.NoError(d, err)
		require.False(d, stored)

		token = NewToken()
		_, err = s.Acquire(d.ctx(), k, token, Wanted, ttl, inbox)
		require.NoError(d, err)
		_, err = s.Acquire(d.ctx(), k, NewToken(), Wanted, ttl, inbox)
		require.NoError(d, err)
		require.NoError(d, s.Release(d.ctx(), k, token, []byte("failed")))
		require.NoError(d, s.Invalidate(d.ctx(), []string{k, d.in(p, "another")}, []byte("inv")))
		require.Equal(d, []string{channel + " set", channel + " set", inbox + " failed", channel + " inv"}, ears.heard())
	}
	require.Len(d, epochs, 3, "each has its own")
}

func channels(keys Keys, partitions []int) []string {
	var all []string
	for _, p := range partitions {
		all = append(all, keys.Channel(p, db))
	}
	return all
}

func batchesMixThem(d *divided) {
	var h trips
	d.rdb.AddHook(&h)
	s, once := d.tagged(), [2]int64{0, 1}
	parts := []int{d.here[2], d.there[1], d.here[0], d.here[2], d.here[1]}
	const moved = 1 // the number of who is elsewhere
	good := []bool{true, false, true, true, true}
	inboxes := []string{d.inbox(parts[0]), d.inbox(parts[2]), d.inbox(parts[4])}
	ears := d.listen(append(inboxes, channels(d.keys, d.here)...)...)
	said := func(begin func(i int) string) (all []string) {
		for i := range parts {
			if i != moved {
				all = append(all, begin(i)+fmt.Sprint(i))
			}
		}
		return all
	}
	for round := range 2 { // in the first one the node does not know the scripts yet
		known := func() {
			if n := h.take(); round > 0 {
				require.Equal(d, once, n, "one pipeline, and nothing beside")
			}
		}
		keys := make([]string, len(parts))
		asks := make([]Ask, len(parts))
		for i, p := range parts {
			keys[i] = d.in(p, fmt.Sprint("k", round, i, "-"))
			asks[i] = Ask{Key: keys[i], Token: NewToken(), Inbox: d.inbox(p)}
		}
		h.take()
		leases := s.AcquireMany(d.ctx(), asks, ttl)
		known()
		requireMoved(d, leases[moved].Err)
		fills, holdings := make([]Filling, len(parts)), make([]Holding, len(parts))
		for i, l := range leases {
			require.Equal(d, i == moved, l.Err != nil)
			fills[i] = Filling{
				Key: keys[i], Token: asks[i].Token, Envelope: d.envelope(keys[i], l.Value, "red"), TTL: ttl,
				Epoch: l.Value.Epoch, AsOf: l.Value.AsOf, Wake: fmt.Append(nil, "filled ", i),
			}
			holdings[i] = Holding{Key: keys[i], Token: asks[i].Token}
			asks[i].Token = NewToken() // of who waits
		}
		require.Equal(d, leases[0].Value.Epoch, leases[3].Value.Epoch, "of one partition")
		require.NotEqual(d, leases[0].Value.Epoch, leases[2].Value.Epoch)
		for i, l := range s.AcquireMany(d.ctx(), asks, ttl) {
			if i != moved {
				require.NoError(d, l.Err)
				require.Equal(d, Held, l.Value.Outcome)
			}
		}
		h.take()
		requireMixed(d, good, s.RenewMany(d.ctx(), holdings, ttl))
		known()
		requireMixed(d, good, s.FillMany(d.ctx(), fills))
		known()
		want := said(func(i int) string { return d.inbox(parts[i]) + " filled " })
		for _, store := range []*Store{s, d.a} {
			for i, a := range store.GetMany(d.ctx(), keys) {
				if i == moved {
					requireMoved(d, a.Err)
					continue
				}
				require.NoError(d, a.Err)
				require.Equal(d, fills[i].Envelope, a.Value)
			}
			h.take()
		}
		requireMixed(d, []bool{false, false, false, false, false}, s.ReleaseMany(d.ctx(), holdings))
		known()

		sets := make([]Setting, len(parts))
		for i, f := range fills {
			sets[i] = Setting{Key: f.Key, Envelope: f.Envelope, TTL: ttl, Epoch: f.Epoch, NotAfter: d.now() + ttl.Milliseconds(), Message: fmt.Append(nil, "set ", i)}
		}
		h.take()
		requireMixed(d, good, s.SetMany(d.ctx(), sets))
		known()

		invs := make([]Invalidation, len(parts))
		for i, key := range keys {
			invs[i] = Invalidation{Keys: []string{key, d.in(parts[i], "more")}, Message: fmt.Append(nil, "inv ", i)}
		}
		errs := s.InvalidateMany(d.ctx(), invs)
		known()
		want = append(want, said(func(i int) string { return d.keys.Channel(parts[i], db) + " set " })...)
		want = append(want, said(func(i int) string { return d.keys.Channel(parts[i], db) + " inv " })...)
		// Where a script was not known, its first call comes after the others.
		if round == 0 {
			require.ElementsMatch(d, want, ears.heard())
		} else {
			require.Equal(d, want, ears.heard())
		}
		require.Len(d, errs, len(parts))
		for i, err := range errs {
			if i == moved {
				requireMoved(d, err)
				continue
			}
			require.NoError(d, err)
			require.Nil(d, d.get(keys[i]))
		}
		h.take()
	}
}

// requireMixed requires these answers, and that the second one is about another node's.
func requireMixed(d *divided, want []bool, got []Answer[bool]) {
	d.Helper()
	for i, a := range got {
		require.Equal(d, want[i], a.Value, i)
		if i == 1 {
			requireMoved(d, a.Err)
		} else {
			require.NoError(d, a.Err)
		}
	}
	require.Len(d, got, len(want))
}

func readsShareATrip(d *divided) {
	h := &toll{stopped: make(chan chan struct{})}
	rdb := newClient(d.T, d.rdb.Options().Addr)
	rdb.AddHook(h)
	s := New(rdb, Options{Keys: d.keys, Schema: schemaA, DB: db, MaxBytes: maxBytes, Pipelines: 1})
	values := make([][]byte, 5)
	for i := range values {
		values[i] = d.load(d.in(d.here[i], "k"), fmt.Sprint("tag", i)) // tags, so that each is looked at in its partition
	}
	require.NoError(d, d.tagged().InvalidateTags(d.ctx(), []int{d.here[3]}, []string{"tag2", "tag3"}, []byte("inv"))[0])
	values[3] = nil
	answers := make([]chan answer, len(values))
	start := func(i int) {
		answers[i] = make(chan answer, 1)
		go func() {
			b, err := s.Get(d.ctx(), d.in(d.here[i], "k"))
			answers[i] <- answer{b, err}
		}()
	}
	start(0)
	first := <-h.stopped
	for i := 1; i < len(values); i++ {
		start(i)
	}
	require.Eventually(d, func() bool { return s.Waiting() == len(values)-1 }, patience, time.Millisecond)
	close(first)
	close(<-h.stopped)
	for i, a := range answers {
		got := <-a
		require.NoError(d, got.err)
		require.Equal(d, values[i], got.value, i)
	}
	require.EqualValues(d, 1, h.pipelines.Load())
	require.EqualValues(d, len(values)-1, h.longest.Load())
}

func invalidateAllOfSome(d *divided) {
	parts := d.here[:5]
	epochs := map[int]string{}
	for _, p := range parts {
		d.load(d.in(p, "k"))
		epochs[p] = d.epoch(p)
	}
	ears := d.listen(channels(d.keys, parts)...)
	before := d.content(d.rdb)
	errs := d.a.InvalidateAll(d.ctx(), []int{parts[3], d.there[0], parts[1]}, []byte("all"))
	require.Len(d, errs, 3)
	require.NoError(d, errs[0])
	requireMoved(d, errs[1])
	require.NoError(d, errs[2])
	require.ElementsMatch(d, []string{d.keys.Channel(parts[3], db) + " all", d.keys.Channel(parts[1], db) + " all"}, ears.heard())
	changed := map[string]bool{d.epoch(parts[1]): true, d.epoch(parts[3]): true}
	for _, p := range parts {
		changed[epochs[p]] = true
	}
	require.Len(d, changed, len(parts)+2, "each has a new one of its own")
	after := d.content(d.rdb)
	delete(before, d.keys.Epoch(parts[1]))
	delete(before, d.keys.Epoch(parts[3]))
	delete(after, d.keys.Epoch(parts[1]))
	delete(after, d.keys.Epoch(parts[3]))
	require.Equal(d, before, after, "nothing else changes")
}

func invalidateTagsOfSome(d *divided) {
	parts := d.here[:5]
	values, loads := map[int][]byte{}, map[int]Filling{}
	for _, p := range parts {
		values[p] = d.load(d.in(p, "k"), "red", "blue")
		k, token := d.in(p, "under way"), NewToken()
		l, err := d.tagged().Acquire(d.ctx(), k, token, Wanted, ttl, d.inbox(p))
		require.NoError(d, err)
		loads[p] = Filling{Key: k, Token: token, Envelope: d.envelope(k, l, "green"), TTL: ttl, Epoch: l.Epoch, AsOf: l.AsOf}
	}
	ears := d.listen(channels(d.keys, parts)...)
	named := []int{parts[4], parts[0]}
	errs := d.a.InvalidateTags(d.ctx(), append(named, d.there[2]), []string{"green", "red"}, []byte("tags"))
	require.Len(d, errs, 3)
	require.NoError(d, errs[0])
	require.NoError(d, errs[1])
	requireMoved(d, errs[2])
	require.ElementsMatch(d, []string{d.keys.Channel(parts[4], db) + " tags", d.keys.Channel(parts[0], db) + " tags"}, ears.heard())
	for _, p := range parts {
		want := values[p]
		if slices.Contains(named, p) {
			want = nil
		}
		require.Equal(d, want, d.get(d.in(p, "k")))
		stored, err := d.tagged().FillWith(d.ctx(), loads[p])
		require.NoError(d, err)
		require.Equal(d, want != nil, stored, "a load that was under way")
	}
}

// onOne is every call, about one partition.
func onOne(d *divided, p int) map[string]func() error {
	k, s, ctx := d.in(p, "k"), d.tagged(), d.ctx()
	b := d.envelope(k, Lease{Epoch: 1, Now: d.now()}, "red")
	late := d.now() + time.Minute.Milliseconds()
	return map[string]func() error{
		"Get":          func() error { _, err := s.Get(ctx, k); return err },
		"Get untagged": func() error { _, err := d.a.Get(ctx, k); return err },
		"GetMany":      func() error { return s.GetMany(ctx, []string{k})[0].Err },
		"Acquire":      func() error { _, err := s.Acquire(ctx, k, NewToken(), Unwanted, ttl, d.inbox(p)); return err },
		"Renew":        func() error { _, err := s.Renew(ctx, k, NewToken(), ttl); return err },
		"Fill":         func() error { _, err := s.FillWith(ctx, Filling{Key: k, Envelope: b, TTL: ttl}); return err },
		"Release":      func() error { return s.Release(ctx, k, NewToken(), []byte("x")) },
		"Set":          func() error { _, err := s.Set(ctx, k, b, ttl, 1, late, []byte("x")); return err },
		"Invalidate":   func() error { return s.Invalidate(ctx, []string{k}, []byte("x")) },
		"InvalidateMany": func() error {
			return s.InvalidateMany(ctx, []Invalidation{{Keys: []string{k}, Message: []byte("x")}})[0]
		},
		"InvalidateAll":  func() error { return s.InvalidateAll(ctx, []int{p}, []byte("x"))[0] },
		"InvalidateTags": func() error { return s.InvalidateTags(ctx, []int{p}, []string{"red"}, []byte("x"))[0] },
	}
}

func elsewhere(d *divided) {
	p := d.there[0]
	owner := newFixtureWith(d.T, d.other, d.keys)
	there := &divided{fixture: owner, table: d.table}
	there.load(d.in(p, "k"), "red")
	ears := there.listen(d.keys.Channel(p, db))
	before := d.content(d.other)
	require.NotEmpty(d, before)
	for name, call := range onOne(d, p) {
		err := call()
		require.Error(d, err, name)
		requireMoved(d, err)
	}
	require.Equal(d, before, d.content(d.other))
	require.Empty(d, d.content(d.rdb))
	require.Empty(d, ears.heard())
}

func keysOfSeveralInOneCall(d *divided) {
	keys := []string{d.in(d.here[0], "k"), d.in(d.here[1], "k")}
	for _, k := range keys {
		d.load(k)
	}
	before, ears := d.content(d.rdb), d.listen(channels(d.keys, d.here)...)
	var reply redis.Error
	require.ErrorAs(d, d.a.Invalidate(d.ctx(), keys, []byte("x")), &reply)
	require.ErrorContains(d, reply, "CROSSSLOT")
	require.Equal(d, before, d.content(d.rdb))
	require.Empty(d, ears.heard())
}

// While a slot is open to another node, keys that are not there may be there. A script that comes upon one in its course ends
// with an error, and what it has done until then stays: that is never more than an invalidation.
func handedOver(d *divided, c *redisserver.Cluster) {
	p := d.here[handed]
	k, gone := d.in(p, "k"), d.in(p, "gone")
	b := d.load(k, "red")
	lost := Filling{Key: d.in(p, "loading"), Token: NewToken(), TTL: ttl}
	l, err := d.tagged().Acquire(d.ctx(), lost.Key, lost.Token, Wanted, ttl, d.inbox(p))
	require.NoError(d, err)
	lost.Epoch, lost.AsOf, lost.Envelope = l.Epoch, l.AsOf, d.envelope(lost.Key, l, "green")
	m, err := c.BeginMigration(partition.Slot(d.table.Tag(p)), c.Nodes()[1])
	require.NoError(d, err)
	d.Cleanup(func() { require.NoError(d, m.Abort()) })

	require.Equal(d, b, d.get(k), "what is here can be read")
	refused := func(err error) {
		d.Helper()
		var reply redis.Error
		require.ErrorAs(d, err, &reply)
	}
	_, err = d.a.Get(d.ctx(), gone)
	refused(err)
	_, err = d.a.Acquire(d.ctx(), gone, NewToken(), Wanted, ttl, d.inbox(p))
	refused(err)
	refused(d.a.Invalidate(d.ctx(), []string{k, gone}, []byte("inv")))
	require.Equal(d, b, d.get(k), "all or nothing")

	// The version of the tag may be there.
	stored, err := d.tagged().FillWith(d.ctx(), lost)
	refused(err)
	require.False(d, stored)
	ears := d.listen(d.keys.Channel(p, db))
	late := d.now() + time.Minute.Milliseconds()
	stored, err = d.tagged().Set(d.ctx(), k, b, ttl, l.Epoch, late, []byte("set"))
	refused(err)
	require.False(d, stored)
	require.Equal(d, []string{d.keys.Channel(p, db) + " set"}, ears.heard())
	refused(d.a.InvalidateAll(d.ctx(), []int{p}, []byte("all"))[0])
	content := d.content(d.rdb)
	for _, key := range []string{k, lost.Key} {
		require.Empty(d, d.rdb.HGet(d.ctx(), d.keys.Entry(key), schemaA.Field()).Val())
	}
	require.NotContains(d, slices.Collect(maps.Keys(content)), d.keys.Epoch(p))
}

// One alone costs what it costs on a single Redis, and several one round trip.
func TestInvalidationsInOneTrip(t *testing.T) {
	t.Parallel()
	var h trips
	rdb := newClient(t, miniredis.RunT(t).Addr())
	rdb.AddHook(&h)
	f := newFixture(t, rdb)
	type told struct {
		op      Op
		entries int
	}
	var seen []told
	s := New(rdb, Options{Keys: f.keys, Schema: schemaA, DB: db, Observe: func(_ context.Context, op Op, entries int, _ time.Duration, _ error) {
		seen = append(seen, told{op, entries})
	}})
	take := func() []told { defer func() { seen = nil }(); return seen }
	for range 2 { // the server knows the scripts in the second round
		for op, call := range map[Op]func(n int) []error{
			OpInvalidate: func(n int) []error {
				return s.InvalidateMany(f.ctx(), slices.Repeat([]Invalidation{{Keys: []string{"a", "b"}, Message: []byte("inv")}}, n))
			},
			OpInvalidateAll:  func(n int) []error { return s.InvalidateAll(f.ctx(), make([]int, n), []byte("all")) },
			OpInvalidateTags: func(n int) []error { return s.InvalidateTags(f.ctx(), make([]int, n), []string{"red"}, []byte("tags")) },
		} {
			each := map[Op]int{OpInvalidate: 2, OpInvalidateAll: 1, OpInvalidateTags: 1}[op]
			require.Empty(t, call(0))
			require.Equal(t, [2]int64{}, h.take())
			require.Empty(t, take())
			ears := f.listen(f.channel())
			require.Equal(t, []error{nil}, call(1))
			h.take()
			require.Equal(t, []error{nil}, call(1))
			require.Equal(t, [2]int64{1, 0}, h.take())
			require.Equal(t, []told{{op, each}, {op, each}}, take())
			require.Equal(t, []error{nil, nil, nil}, call(3))
			require.Equal(t, [2]int64{0, 1}, h.take())
			require.Equal(t, []told{{op, 3 * each}}, take())
			require.Len(t, ears.heard(), 5)
		}
	}
}
