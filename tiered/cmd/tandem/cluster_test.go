package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/partition"
	"github.com/tandemcache/tandem/remote"
	"github.com/tandemcache/tandem/tests/redisserver"
	"github.com/tandemcache/tandem/tiered"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/inspect"
)

// sharedCluster is one for all tests, which have caches of their own on it and leave it whole. It takes seconds to start.
var sharedCluster redisserver.SharedCluster

func clusterNodes(t *testing.T) *redisserver.Cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: a cluster takes seconds to start")
	}
	return sharedCluster.Run(t)
}

var clusterCaches atomic.Int64

func clusterCache() string { return fmt.Sprint("things-", clusterCaches.Add(1)) }

func clusterKeys(t *testing.T, cache string, partitions int) remote.Keys {
	t.Helper()
	table, err := partition.New(partitions)
	require.NoError(t, err)
	keys, err := remote.ClusterKeys(cache, table)
	require.NoError(t, err)
	return keys
}

func newClusterService(t *testing.T, cache string) *service {
	t.Helper()
	return newServiceOn(t, redis.NewClusterClient(&redis.ClusterOptions{Addrs: clusterNodes(t).Addrs()}), cache, nil)
}

func TestGetInACluster(t *testing.T) {
	t.Parallel()
	nodes, cache := clusterNodes(t), clusterCache()
	seed := nodes.Nodes()[4].Addr() // a replica
	s := newClusterService(t, cache)
	keys := clusterKeys(t, cache, tiered.DefaultPartitions)
	for _, key := range []string{"42", "43", "44", "45"} {
		_, err := s.Get(t.Context(), key)
		require.NoError(t, err)
		for _, args := range [][]string{{cache, key}, {keys.Entry(key)}} {
			got := tandem(t, "", append([]string{"get", "-json", "-redis", seed}, args...)...)
			require.Equal(t, exitOK, got.code, got.errOut)
			var e inspect.Entry
			require.NoError(t, json.Unmarshal([]byte(got.out), &e))
			require.Equal(t, keys.Entry(key), e.RedisKey)
			require.Equal(t, inspect.StateLive, e.Schemas[0].State)
			require.JSONEq(t, `{"id":"`+key+`","name":"user `+key+`"}`, string(e.Schemas[0].Value.JSON))
		}
	}
	require.NoError(t, s.InvalidateTags(t.Context(), "user 42"))
	got := tandem(t, "", "get", "-redis", seed, cache, "42")
	require.Contains(t, got.out, "tags         everybody, user 42 (invalidated)\n")

	got = tandem(t, "", "get", "-redis", seed, "tandem:{"+cache+"}:k:42")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.errOut, keys.Entry("42"))
}

func TestACacheThatTheClusterDoesNotHave(t *testing.T) {
	t.Parallel()
	seed := clusterNodes(t).Nodes()[0].Addr()
	for _, args := range [][]string{{"get", "nowhere", "42"}, {"watch", "nowhere"}} {
		got := tandem(t, "", append(args, "-redis", seed)...)
		require.Equal(t, exitFailure, got.code, args)
		require.Contains(t, got.errOut, "the Redis Cluster at "+seed)
		require.Contains(t, got.errOut, "tandem:nowhere:layout", args)
	}
	for _, args := range [][]string{{"42"}, {"-all"}, {"-tag", "red"}} {
		got := tandem(t, "", append([]string{"invalidate", "nowhere", "-redis", seed}, args...)...)
		require.Equal(t, exitOK, got.code, got.errOut)
		require.Contains(t, got.out, "nothing to invalidate")
		require.Contains(t, got.out, "tandem:nowhere:layout")
	}
	got := tandem(t, "", "get", "-redis", seed, "-db", "1", "nowhere", "42")
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.errOut, "database 0")

	rdb := clusterNodes(t).Client()
	require.NoError(t, rdb.Set(t.Context(), "tandem:strange:layout", "2 64 more", 0).Err())
	got = tandem(t, "", "invalidate", "-json", "-redis", seed, "strange", "42", "43", "42")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.errOut, ": not invalidated: 42 43: ")
	require.Contains(t, got.errOut, `tandem:strange:layout is "2 64 more"`)
	require.JSONEq(t, `{"cache": "strange", "all": false, "tags": 0, "keys": 0, "failed_keys": 2}`, got.out)
}

func TestInvalidateInACluster(t *testing.T) {
	t.Parallel()
	cache := clusterCache()
	seed := clusterNodes(t).Nodes()[1].Addr()
	s := newClusterService(t, cache)
	const n = 100
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	get := func() int64 {
		for _, key := range names {
			_, err := s.Get(t.Context(), key)
			require.NoError(t, err)
		}
		return s.loads.Load()
	}
	require.EqualValues(t, n, get())
	says := func(what string) string { return "invalidated " + what + " of cache " + cache + "\n" }
	for _, c := range []struct {
		stdin string
		args  []string
		says  string
		loads int64
	}{
		{"", names, says("100 keys"), n},
		{strings.Join(names, "\n"), []string{"-"}, says("100 keys"), n},
		{"", []string{"absent"}, says("1 key"), 0},
		{"", []string{"-all"}, says("every key"), n},
		{"", []string{"-tag", "user 1", "-tag", "user 3"}, says("2 tags"), 2},
		{"", []string{"-tag", "everybody"}, says("1 tag"), n},
		{"", []string{"-tag", "user 1", "2"}, says("1 tag and 1 key"), 2},
	} {
		before := get()
		got := tandem(t, c.stdin, append([]string{"invalidate", "-redis", seed, cache}, c.args...)...)
		require.Equal(t, outcome{exitOK, c.says, ""}, got)
		eventually(t, func() bool { return get() == before+c.loads }, c.args...)
	}
}

// The key that says how the cache is divided may be lost while the cache runs, and be written again a moment later.
func TestInvalidateWithoutTheLayout(t *testing.T) {
	t.Parallel()
	cache := clusterCache()
	nodes := clusterNodes(t)
	rdb := nodes.Client()
	for _, c := range []struct {
		args []string
		left int64
	}{{[]string{"42"}, 0}, {[]string{"-all"}, 1}} {
		keys := clusterKeys(t, cache, 128)
		require.NoError(t, rdb.Set(t.Context(), keys.Epoch(keys.Partition("42")), "00000000000000ff:+", 0).Err())
		require.NoError(t, rdb.HSet(t.Context(), keys.Entry("42"), "a", "b").Err())
		got := tandem(t, "", append([]string{"invalidate", "-redis", nodes.Nodes()[0].Addr(), cache}, c.args...)...)
		require.Equal(t, exitOK, got.code, got.errOut)
		require.NotContains(t, got.out, "nothing to invalidate")
		require.Equal(t, c.left, rdb.Exists(t.Context(), keys.Entry("42")).Val())
		if c.left > 0 {
			require.NotContains(t, rdb.Get(t.Context(), keys.Epoch(keys.Partition("42"))).Val(), "00000000000000ff")
		}
		require.Zero(t, rdb.Exists(t.Context(), keys.Layout()).Val(), "to write it is for instances")
	}
}

// What one division does not take says nothing of another, in which instances may read.
func TestInvalidateGoesOnThroughAllDivisions(t *testing.T) {
	t.Parallel()
	nodes, cache := clusterNodes(t), clusterCache()
	older, newer := clusterKeys(t, cache, 16), clusterKeys(t, cache, 32)
	p := newer.Partition("42")
	epoch, entry, tag := newer.Epoch(p), newer.Entry("42"), newer.Tag(p, "red")
	rdb := nodes.Client()
	require.NoError(t, rdb.Set(t.Context(), older.Epoch(older.Partition("42")), "00000000000000ff:+", 0).Err())
	other := "0" // of which there is nothing
	for i := 0; older.Partition(other) == older.Partition("42"); i++ {
		other = fmt.Sprint(i)
	}
	limit := func(rules ...any) {
		t.Helper()
		for _, node := range nodes.Nodes() {
			args := append([]any{"ACL", "SETUSER", cache, "reset", "on", ">secret", "&*", "+@all", "%R~*"}, rules...)
			require.NoError(t, node.Client().Do(t.Context(), args...).Err())
		}
	}
	defer func() {
		for _, node := range nodes.Nodes() {
			require.NoError(t, node.Client().Do(t.Context(), "ACL", "DELUSER", cache).Err())
		}
	}()
	invalidate := func(args ...string) outcome {
		t.Helper()
		for _, name := range []string{epoch, tag} {
			require.NoError(t, rdb.Set(t.Context(), name, "00000000000000ff:+", 0).Err())
		}
		require.NoError(t, rdb.HSet(t.Context(), entry, "a", "b").Err())
		url := "redis://" + cache + ":secret@" + nodes.Nodes()[0].Addr()
		got := tandem(t, "", append([]string{"invalidate", "-redis", url, cache}, args...)...)
		require.Equal(t, exitFailure, got.code)
		require.Contains(t, got.errOut, "NOPERM")
		return got
	}

	limit("~" + strings.TrimSuffix(newer.Entries(p), "k:") + "*")
	got := invalidate("42", other)
	require.Contains(t, got.errOut, ": not invalidated: 42: node ")
	require.Equal(t, "invalidated 1 key of cache "+cache+"\n", got.out, "the other one")
	require.Zero(t, rdb.Exists(t.Context(), entry).Val())
	got = invalidate("-tag", "red")
	require.Contains(t, got.errOut, ": the tags red: not invalidated: node ")
	require.Empty(t, got.out)
	require.Zero(t, rdb.Exists(t.Context(), tag).Val())
	got = invalidate("-all")
	require.Contains(t, got.errOut, ": the cache: not invalidated: node ")
	require.Empty(t, got.out)
	require.NotContains(t, rdb.Get(t.Context(), epoch).Val(), "00000000000000ff")

	limit()
	got = invalidate(other, "42", "42")
	require.Contains(t, got.errOut, ": not invalidated: 42: node ", "named once")
	require.Equal(t, "invalidated 1 key of cache "+cache+"\n", got.out, "the other one")
	require.EqualValues(t, 1, rdb.Exists(t.Context(), entry).Val())
}

// A node to which a slot is on its way publishes where nobody listens.
func TestInvalidateDoesNotGoAhead(t *testing.T) {
	t.Parallel()
	nodes := redisserver.RunCluster(t, redisserver.ClusterOptions{Replicas: -1})
	cache := clusterCache()
	keys := clusterKeys(t, cache, 16)
	rdb := nodes.Client()
	require.NoError(t, rdb.Set(t.Context(), keys.Layout(), "1 16", 0).Err())
	slot := partition.Slot(strings.TrimSuffix(strings.TrimPrefix(keys.Entries(keys.Partition("42")), "tandem:"+cache+":{"), "}:k:"))
	from, err := nodes.Master(slot)
	require.NoError(t, err)
	to := nodes.Nodes()[0]
	if to == from {
		to = nodes.Nodes()[1]
	}
	on, err := nodes.BeginMigration(slot, to)
	require.NoError(t, err)
	other := "0"
	for i := 0; keys.Partition(other) == keys.Partition("42"); i++ {
		other = fmt.Sprint(i)
	}
	got := tandem(t, "", "invalidate", "-redis", from.Addr(), cache, "42", other)
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.errOut, "not invalidated: 42: node "+from.Addr())
	require.Contains(t, got.errOut, "ASK")
	require.Equal(t, "invalidated 1 key of cache "+cache+"\n", got.out, "the other one")

	require.NoError(t, on.Finish())
	got = tandem(t, "", "invalidate", "-redis", from.Addr(), cache, "42")
	require.Equal(t, outcome{exitOK, "invalidated 1 key of cache " + cache + "\n", ""}, got)
}

func TestWatchInACluster(t *testing.T) {
	t.Parallel()
	nodes, cache := clusterNodes(t), clusterCache()
	seed := nodes.Nodes()[0].Addr()
	all, stopAll := start(t, "watch", "-redis", seed, "-json")
	waitFor(t, all, `"looking"`)
	s := newClusterService(t, cache)
	one, stopOne := start(t, "watch", "-redis", seed, cache)
	for _, out := range []*syncBuffer{one, all} {
		for _, master := range nodes.Masters() {
			eventually(t, func() bool {
				for line := range strings.Lines(out.String()) {
					if strings.Contains(line, cache) && strings.Contains(line, "listening") && strings.Contains(line, master.Addr()) {
						return true
					}
				}
				return false
			}, out.String())
		}
	}
	for i := range 40 { // of all nodes
		require.NoError(t, s.Invalidate(t.Context(), fmt.Sprint("key", i)))
		waitFor(t, one, fmt.Sprintf("  1: key%d\n", i))
		waitFor(t, all, fmt.Sprintf(`"cache":%q,"op":"inv"`, cache))
		waitFor(t, all, fmt.Sprintf(`"keys":["key%d"]`, i))
	}
	require.NoError(t, s.InvalidateAll(t.Context()))
	eventually(t, func() bool { return strings.Count(one.String(), "every key") == tiered.DefaultPartitions })
	require.NotContains(t, one.String(), "LOST")
	require.Zero(t, stopOne())
	require.Zero(t, stopAll())
	for line := range strings.Lines(all.String()) {
		require.True(t, json.Valid([]byte(line)), line)
	}
}

// A slot that moves, a node that stands still, and one that another takes the place of: it is told, and what is said afterwards is heard.
func TestWatchFollowsTheCluster(t *testing.T) {
	t.Parallel()
	nodes := redisserver.RunCluster(t, redisserver.ClusterOptions{})
	cache := clusterCache()
	keys := clusterKeys(t, cache, 16)
	rdb := nodes.Client()
	require.NoError(t, rdb.Set(t.Context(), keys.Layout(), "1 16", 0).Err())
	first, second, third := nodes.Nodes()[0], nodes.Nodes()[1], nodes.Nodes()[2]
	out, stop := start(t, "watch", "-redis", third.Addr(), cache)
	heard := 0
	hears := func(p int) {
		t.Helper()
		heard++
		key := fmt.Sprint("n", heard)
		eventually(t, func() bool {
			_ = rdb.SPublish(t.Context(), keys.Channel(p, 0), "tandem/1 inv 5:shell,"+fmt.Sprintf("%d:%s,", len(key), key)).Err()
			return strings.Contains(out.String(), "  1: "+key+"\n")
		}, out.String())
	}
	// told sums up the partitions of the lines with a beginning: what happens at once may be told in several.
	told := func(beginning string) (sum int) {
		for _, found := range regexp.MustCompile(beginning+` (\d+) of 16 partitions`).FindAllStringSubmatch(out.String(), -1) {
			n, err := strconv.Atoi(found[1])
			require.NoError(t, err)
			sum += n
		}
		return sum
	}
	listens := func(node string, partitions int) {
		t.Helper()
		eventually(t, func() bool { return told(` at `+regexp.QuoteMeta(node)+`:`) >= partitions }, node)
	}
	// The reason is whichever is noticed first: what the node does, or that the cluster says that it has another owner.
	loses := func(node, reason string, partitions int) {
		t.Helper()
		line := `NODE LOST: ` + regexp.QuoteMeta(node) + ` \((?:` + reason + `|another node has the slots now)\): messages of`
		eventually(t, func() bool { return told(line) >= partitions }, node)
	}
	listens(first.Addr(), 5)
	waitFor(t, out, "at "+second.Addr())
	hears(0)

	slot := partition.Slot(strings.TrimSuffix(strings.TrimPrefix(keys.Entries(0), "tandem:"+cache+":{"), "}:k:"))
	require.NoError(t, nodes.Migrate(slot, second))
	loses(first.Addr(), "it has given up the slots", 1)
	waitFor(t, out, "at "+second.Addr()+": 1 of 16 partitions")
	hears(0)

	replica := nodes.Replicas(first)[0]
	require.NoError(t, nodes.Failover(replica))
	loses(first.Addr(), "it has given up the slots", 1+4)
	listens(replica.Addr(), 4)
	hears(1)

	require.NoError(t, replica.Pause())
	loses(replica.Addr(), "no answer for 4s", 4)
	listens(first.Addr(), 5+4)
	require.NoError(t, replica.Resume())
	require.Zero(t, stop())
}

func TestDemoInAClusterLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	nodes := clusterNodes(t)
	got := tandem(t, "", append(short, "-json", "-redis", nodes.Nodes()[0].Addr())...)
	require.Equal(t, exitOK, got.code, got.errOut)
	requireDemo(t, got.out)
	for _, node := range nodes.Masters() {
		require.Empty(t, node.Client().Keys(t.Context(), "*tandem-demo-*").Val())
	}
}
