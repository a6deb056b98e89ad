package remote

import (
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/partition"
	"github.com/tandemcache/tandem/tests/redisserver"
)

// On a node that has one slot, everything that a script touches beside that slot is an error, declared or not: keys of tags,
// channels of invalidations and those of who waits.
func TestOnANodeWithNothingButThePartition(t *testing.T) {
	t.Parallel()
	rdb := nodeWithOneSlot(t)
	f := newFixture(t, rdb)
	const inbox = "tandem:{" + partTagOfTests + "}:inst:0011223344556677:0"
	ears := f.listen(inbox, f.channel())

	opts := Options{Keys: f.keys, Schema: schemaA, DB: db, MaxBytes: maxBytes, Tagged: true}
	s := New(rdb, opts)
	token := NewToken()
	l, err := s.Acquire(f.ctx(), key, token, Wanted, ttl, inbox)
	require.NoError(t, err)
	held, err := s.Acquire(f.ctx(), key, NewToken(), Wanted, ttl, inbox)
	require.NoError(t, err)
	require.Equal(t, Held, held.Outcome)
	envelope, err := Envelope{Schema: schemaA, Epoch: l.Epoch, Created: l.Now, Expires: l.Now + ttl.Milliseconds(), Tagged: true, Tags: []string{"red", "{blue}"}}.Encode(key)
	require.NoError(t, err)
	many := s.FillMany(f.ctx(), []Filling{{Key: key, Token: token, Envelope: envelope, TTL: ttl, Epoch: l.Epoch, AsOf: l.AsOf, Wake: []byte("filled")}})
	require.NoError(t, many[0].Err)
	require.True(t, many[0].Value)
	require.Equal(t, []string{inbox + " filled"}, ears.heard())
	read, err := s.Get(f.ctx(), key)
	require.NoError(t, err)
	require.Equal(t, envelope, read)

	require.NoError(t, s.InvalidateTags(f.ctx(), only, []string{"red", "green"}, []byte("tags"))[0])
	read, err = s.Get(f.ctx(), key)
	require.NoError(t, err)
	require.Nil(t, read)
	stored, err := s.Set(f.ctx(), key, envelope, ttl, l.Epoch, f.now()+time.Minute.Milliseconds(), []byte("set"))
	require.NoError(t, err)
	require.True(t, stored)
	require.NoError(t, s.Invalidate(f.ctx(), []string{key, "43", "{44}"}, []byte("inv")))
	require.NoError(t, s.InvalidateAll(f.ctx(), only, []byte("all"))[0])
	token = NewToken()
	_, err = s.Acquire(f.ctx(), key, token, Wanted, ttl, inbox)
	require.NoError(t, err)
	f.wait(f.a, inbox)
	require.NoError(t, s.Release(f.ctx(), key, token, []byte("failed")))
	require.Equal(t, []string{
		f.channel() + " tags", f.channel() + " set", f.channel() + " inv", f.channel() + " all", inbox + " failed",
	}, ears.heard())
}

// nodeWithOneSlot returns a client of a cluster's only node, which serves no slot but that of the tests' partition.
func nodeWithOneSlot(t *testing.T) *redis.Client {
	t.Helper()
	c := redisserver.RunCluster(t, redisserver.ClusterOptions{
		Masters: 1, Replicas: -1, Args: []string{"--cluster-require-full-coverage", "no"},
	})
	rdb := newNode(t, c)
	slot := partition.Slot(partTagOfTests)
	require.NoError(t, rdb.ClusterDelSlotsRange(t.Context(), 0, slot-1).Err())
	require.NoError(t, rdb.ClusterDelSlotsRange(t.Context(), slot+1, partition.Slots-1).Err())
	require.ErrorContains(t, rdb.Get(t.Context(), "{another}").Err(), "Hash slot not served")
	require.Eventually(t, func() bool { return errors.Is(rdb.Get(t.Context(), "{"+partTagOfTests+"}").Err(), redis.Nil) }, patience, time.Millisecond)
	return rdb
}
