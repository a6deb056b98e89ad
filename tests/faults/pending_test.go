package faults

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered"
)

// invalidations is a rule under which they never arrive, and everything else does.
var invalidations = rule{drop: func(piece []byte) bool { return bytes.Contains(piece, []byte("tandem/1 inv ")) }}

// C6 and C2 where reads and heartbeats go well and the invalidation does not get through.
func TestAnInvalidationThatDoesNotGetThrough(t *testing.T) {
	srv, s := startRedis(t), newSource(0)
	p, raw := newProxy(t, srv.Addr()), client(t, srv.Addr())
	writer, other := ready(t, p.addr(), s), ready(t, srv.Addr(), s)
	for _, key := range []string{"k", "bystander"} {
		require.Zero(t, get(t, writer, key))
		require.Zero(t, get(t, other, key))
	}
	before := raw.HGetAll(soon(t), entry("k")).Val()
	require.NotEmpty(t, before)

	p.set(invalidations, control, data)
	v := s.write("k")
	began := time.Now()
	require.ErrorIs(t, writer.Invalidate(context.Background(), "k"), tiered.ErrPending)
	took := time.Since(began)
	require.Less(t, took, tiered.DefaultRedisTimeout+slack)
	require.Equal(t, 1, writer.Health().PendingKeys)
	for range 5 {
		loads := s.loads.Load()
		require.Equal(t, v, get(t, writer, "k"), "C2")
		require.Equal(t, loads+1, s.loads.Load(), "loaded each time")
	}
	require.Equal(t, before, raw.HGetAll(soon(t), entry("k")).Val(), "nothing is stored in L2, no lease is taken")
	eventually(t, "L2 is trusted", func() bool { return writer.Health().RemoteTrusted })
	loads := s.loads.Load()
	get(t, writer, "bystander")
	require.Equal(t, loads, s.loads.Load(), "other keys are not concerned")

	p.heal()
	began = time.Now()
	eventually(t, "the other instance has it", func() bool { return get(t, other, "k") == v })
	reached := time.Since(began)
	eventually(t, "nothing is pending", func() bool { return writer.Health().PendingKeys == 0 })
	require.Less(t, reached, 2*time.Second+slack, "the longest pause between two tries, and one that was under way")
	get(t, writer, "k")
	loads = s.loads.Load()
	get(t, writer, "k")
	require.Equal(t, loads, s.loads.Load(), "L1 and L2 are believed again")
	t.Logf("ErrPending after %v; the other instance had it %v after healing", round(took), round(reached))
}

// Many keys become everything of the cache; entries that the calls did not name are dropped with the rest.
func TestTooMuchIsPending(t *testing.T) {
	const most = 10_000
	srv, s := startRedis(t), newSource(0)
	writer, other := ready(t, srv.Addr(), s), ready(t, srv.Addr(), s)
	for _, key := range []string{"k", "bystander"} {
		require.Zero(t, get(t, writer, key))
		require.Zero(t, get(t, other, key))
	}
	require.NoError(t, srv.Pause())
	keys := make([]string, most)
	for i := range keys {
		keys[i] = fmt.Sprint("many:", i)
	}
	began := time.Now()
	require.ErrorIs(t, writer.Invalidate(context.Background(), keys...), tiered.ErrPending)
	took := time.Since(began)
	require.Less(t, took, tiered.DefaultRedisTimeout+slack, "one timeout, not one for each part")
	require.Equal(t, most, writer.Health().PendingKeys)
	require.False(t, writer.Health().PendingAll)

	v, by := s.write("k"), s.write("bystander")
	require.ErrorIs(t, writer.Invalidate(context.Background(), "k"), tiered.ErrPending)
	require.True(t, writer.Health().PendingAll)
	require.Zero(t, writer.Health().PendingKeys)
	require.Equal(t, v, get(t, writer, "k"))

	require.NoError(t, srv.Resume())
	began = time.Now()
	eventually(t, "nothing is pending", func() bool { h := writer.Health(); return !h.PendingAll && h.PendingKeys == 0 })
	drained := time.Since(began)
	for _, c := range []*cache{writer, other} {
		eventually(t, "new versions", func() bool { return get(t, c, "k") == v && get(t, c, "bystander") == by })
	}
	require.Less(t, time.Since(began), 3*time.Second+slack)
	t.Logf("Invalidate of %d keys returned after %v; everything of the cache done %v after the server went on", most, round(took), round(drained))
}

// Close tries once more, and says what is left, within CloseTimeout and what it takes to close connections.
func TestCloseWithPendingInvalidations(t *testing.T) {
	const timeout = 300 * time.Millisecond
	for name, goAway := range awayFrom {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			srv, s := startRedis(t), newSource(0)
			c := ready(t, srv.Addr(), s, func(o *tiered.Options[value]) { o.CloseTimeout = timeout })
			require.NoError(t, goAway(srv))
			for _, key := range []string{"a", "b", "c"} {
				require.ErrorIs(t, c.Invalidate(context.Background(), key), tiered.ErrPending)
			}
			began := time.Now()
			err := c.Close()
			took := time.Since(began)
			require.ErrorIs(t, err, tiered.ErrPending)
			require.ErrorContains(t, err, "3 keys")
			require.Equal(t, err, c.Close())
			require.Less(t, took, timeout+slack)
			t.Logf("Close: %v, after %v", err, round(took))
		})
	}
	t.Run("reached again", func(t *testing.T) {
		srv, s := startRedis(t), newSource(0)
		p, raw := newProxy(t, srv.Addr()), client(t, srv.Addr())
		c := ready(t, p.addr(), s)
		require.Zero(t, get(t, c, "k"))
		p.set(invalidations, control, data)
		require.ErrorIs(t, c.Invalidate(context.Background(), "k"), tiered.ErrPending)
		p.heal()
		require.NoError(t, c.Close())
		require.Zero(t, raw.Exists(soon(t), entry("k")).Val(), "the entry is gone when Close returns nil")
	})
}
