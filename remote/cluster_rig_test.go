package remote

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/partition"
	"github.com/tandemcache/tandem/tests/redisserver"
)

// divided is a cache in partitions, of which two masters have half each. Its stores are on the first master.
type divided struct {
	*fixture
	table       partition.Table
	other       *redis.Client // the second master
	here, there []int         // partitions
}

func newDivided(t *testing.T, c *redisserver.Cluster) *divided {
	t.Helper()
	table, err := partition.New(partition.Min)
	require.NoError(t, err)
	keys, err := ClusterKeys("c-"+string(NewToken()), table)
	require.NoError(t, err)
	nodes := c.Nodes()
	d := &divided{fixture: newFixtureWith(t, newClient(t, nodes[0].Addr()), keys), table: table, other: newClient(t, nodes[1].Addr())}
	for p := range keys.Partitions() {
		owner, err := c.Master(partition.Slot(table.Tag(p)))
		require.NoError(t, err)
		if owner.Addr() == nodes[0].Addr() {
			d.here = append(d.here, p)
		} else {
			d.there = append(d.there, p)
		}
	}
	require.Len(t, d.here, partition.Min/2)
	return d
}

// in returns a key of partition p; of another name, another one.
func (d *divided) in(p int, name string) string {
	for i := 0; ; i++ {
		if k := fmt.Sprint(name, i); d.keys.Partition(k) == p {
			return k
		}
	}
}

// inbox is a private channel in the slot of partition p.
func (d *divided) inbox(p int) string {
	return "tandem:{" + d.table.Tag(p) + "}:inst:0011223344556677:0"
}

func (d *divided) tagged() *Store {
	return New(d.rdb, Options{Keys: d.keys, Schema: schemaA, DB: db, MaxBytes: maxBytes, Tagged: true})
}

// envelope tells tags, or none.
func (d *divided) envelope(key string, l Lease, tags ...string) []byte {
	d.Helper()
	b, err := Envelope{
		Schema: schemaA, Epoch: l.Epoch, Created: l.Now, Expires: l.Now + ttl.Milliseconds(), Tagged: len(tags) > 0, Tags: tags,
	}.Encode(key)
	require.NoError(d, err)
	return b
}

// load stores a value with tags under key, as a load does, and returns its bytes.
func (d *divided) load(key string, tags ...string) []byte {
	d.Helper()
	s, token := d.tagged(), NewToken()
	l, err := s.Acquire(d.ctx(), key, token, Unwanted, ttl, d.inbox(d.keys.Partition(key)))
	require.NoError(d, err)
	require.Equal(d, Acquired, l.Outcome)
	b := d.envelope(key, l, tags...)
	stored, err := s.FillWith(d.ctx(), Filling{Key: key, Token: token, Envelope: b, TTL: ttl, Epoch: l.Epoch, AsOf: l.AsOf})
	require.NoError(d, err)
	require.True(d, stored)
	return b
}

func (d *divided) get(key string) []byte {
	d.Helper()
	b, err := d.a.Get(d.ctx(), key)
	require.NoError(d, err)
	return b
}

func (d *divided) epoch(p int) string {
	d.Helper()
	e, err := d.rdb.Get(d.ctx(), d.keys.Epoch(p)).Result()
	require.NoError(d, err)
	return e
}

// content is all that a node has of the cache.
func (d *divided) content(rdb *redis.Client) map[string]string {
	d.Helper()
	all := map[string]string{}
	names, err := rdb.Keys(d.ctx(), "tandem:"+d.keys.name+":*").Result()
	require.NoError(d, err)
	for _, name := range names {
		all[name], err = rdb.Dump(d.ctx(), name).Result()
		require.NoError(d, err)
	}
	return all
}

// requireMoved requires that the node has refused what is another's.
func requireMoved(t require.TestingT, err error) {
	var reply redis.Error
	require.ErrorAs(t, err, &reply)
	require.True(t, strings.HasPrefix(err.Error(), "MOVED "), err)
}

// trips counts round trips with commands of a Store.
type trips struct{ singles, pipelines atomic.Int64 }

func ours(cmd redis.Cmder) bool {
	return slices.Contains([]string{"hget", "hstrlen", "eval", "evalsha"}, cmd.Name())
}

func (h *trips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if ours(cmd) {
			h.singles.Add(1)
		}
		return next(ctx, cmd)
	}
}

func (h *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if ours(cmds[0]) {
			h.pipelines.Add(1)
		}
		return next(ctx, cmds)
	}
}

// take returns what has been counted since it was called last: single commands and pipelines.
func (h *trips) take() [2]int64 { return [2]int64{h.singles.Swap(0), h.pipelines.Swap(0)} }
