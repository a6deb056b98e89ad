package faults

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/confirm"
	"github.com/tandemcache/tandem/tiered"
)

// ofTags is a rule under which invalidations by tag never arrive, and everything else does.
var ofTags = rule{drop: func(piece []byte) bool { return bytes.Contains(piece, []byte("tandem/1 tags ")) }}

func tagged(o *tiered.Options[value]) {
	o.Tags = func(key string, _ value) []string { return []string{"tag of " + key} }
}

// C6 and C2 where reads and heartbeats go well and the invalidation of a tag does not get through.
func TestAnInvalidationOfATagThatDoesNotGetThrough(t *testing.T) {
	srv, s := startRedis(t), newSource(0)
	p := newProxy(t, srv.Addr())
	writer, other := ready(t, p.addr(), s, tagged), ready(t, srv.Addr(), s, tagged)
	for _, key := range []string{"k", "bystander"} {
		require.Zero(t, get(t, writer, key))
		require.Zero(t, get(t, other, key))
	}
	p.set(ofTags, control, data)
	v := s.write("k")
	began := time.Now()
	require.ErrorIs(t, writer.InvalidateTags(context.Background(), "tag of k"), tiered.ErrPending)
	require.Less(t, time.Since(began), tiered.DefaultRedisTimeout+slack)
	require.Equal(t, 1, writer.Health().PendingKeys)
	for range 5 {
		require.Equal(t, v, get(t, writer, "k"), "C2")
	}
	loads := s.loads.Load()
	get(t, writer, "bystander")
	require.Equal(t, loads, s.loads.Load(), "other tags are not concerned")

	p.heal()
	eventually(t, "the other instance has it", func() bool { return get(t, other, "k") == v })
	eventually(t, "nothing is pending", func() bool { return writer.Health().PendingKeys == 0 })
	require.Equal(t, v, get(t, writer, "k"))
}

// Redis is away for the invalidation, and back before a new entry: nobody is served what is in it.
func TestRedisIsAwayForTheInvalidationOfATag(t *testing.T) {
	for name, goAway := range awayFrom {
		t.Run(name, func(t *testing.T) {
			const bound = 500 * time.Millisecond
			srv, s := startRedis(t), newSource(0)
			writer, other := ready(t, srv.Addr(), s, tagged, staleness(bound)), ready(t, srv.Addr(), s, tagged, staleness(bound))
			require.Zero(t, get(t, writer, "k"))
			require.Zero(t, get(t, other, "k"))
			require.NoError(t, goAway(srv))
			v := s.write("k")
			require.ErrorIs(t, writer.InvalidateTags(context.Background(), "tag of k"), tiered.ErrPending)
			require.Equal(t, v, get(t, writer, "k"), "C5")
			time.Sleep(bound + slack/2)
			require.Equal(t, v, get(t, other, "k"), "C3: it does not hear either, and knows")
		})
	}
}

// A deaf instance reads Redis, which knows of the tag.
func TestADeafInstanceAndATag(t *testing.T) {
	const bound = 500 * time.Millisecond
	srv, s := startRedis(t), newSource(0)
	p := newProxy(t, srv.Addr())
	writer, deaf := ready(t, srv.Addr(), s, tagged, staleness(bound)), ready(t, p.addr(), s, tagged, staleness(bound))
	require.Zero(t, get(t, writer, "k"))
	require.Zero(t, get(t, deaf, "k"))
	p.set(rule{down: swallow}, bus)
	v := s.write("k")
	confirm.Within(t, patience, func() error { return writer.InvalidateTags(context.Background(), "tag of k") })
	acked := time.Now()
	for time.Since(acked) < 4*bound {
		began := time.Since(acked)
		if got := get(t, deaf, "k"); began > bound {
			require.Equal(t, v, got, "%v after", began)
		}
		time.Sleep(time.Millisecond)
	}
	require.Equal(t, v, get(t, deaf, "k"))
}
