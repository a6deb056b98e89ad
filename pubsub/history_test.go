package pubsub

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/lineage"
	"github.com/tandemcache/tandem/tests/redisserver"
)

// serverFixture is beat.lua on a server that keeps a stream of its writes for replicas.
func serverFixture(t *testing.T, opt redisserver.Options) (*beatFixture, *redisserver.Server) {
	t.Helper()
	opt.Args = append(opt.Args, "--repl-diskless-sync-delay", "0")
	srv := redisserver.Run(t, opt)
	rdb := redis.NewClient(&redis.Options{Addr: srv.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	f := &beatFixture{T: t, rdb: rdb, probe: "probe", inbox: "inbox"}
	f.ask()
	return f, srv
}

// ask notes which replication id the server has now.
func (f *beatFixture) ask() {
	f.Helper()
	info, err := f.rdb.Info(f.ctx(), "replication").Result()
	require.NoError(f, err)
	s, ok := lineage.Parse(info)
	require.True(f, ok)
	f.server = s.ID
}

// replicate makes f's server a replica of master's and waits until it has everything.
func (f *beatFixture) replicate(master *beatFixture, addr string) {
	f.Helper()
	host, port, _ := strings.Cut(addr, ":")
	require.NoError(f, f.rdb.Do(f.ctx(), "REPLICAOF", host, port).Err())
	eventually(f, "the replica has everything", func() bool {
		n, err := master.rdb.Wait(f.ctx(), 1, 100*time.Millisecond).Result()
		return err == nil && n == 1
	})
}

// offset is how far the server's stream of writes has come.
func (f *beatFixture) offset() string {
	f.Helper()
	info, err := f.rdb.InfoMap(f.ctx(), "replication").Result()
	require.NoError(f, err)
	return info["Replication"]["master_repl_offset"]
}

func (f *beatFixture) promote() {
	f.Helper()
	require.NoError(f, f.rdb.Do(f.ctx(), "REPLICAOF", "NO", "ONE").Err())
	before := f.server
	f.ask()
	require.NotEqual(f, before, f.server)
}

// allOn returns what is published on a channel.
func (f *beatFixture) allOn(channel string) <-chan *redis.Message {
	f.Helper()
	ps := f.rdb.Subscribe(f.ctx(), channel)
	f.Cleanup(func() { _ = ps.Close() })
	_, err := ps.Receive(f.ctx())
	require.NoError(f, err)
	return ps.Channel()
}

func TestAPromotedReplicaThatHasEverythingKeepsTheVersion(t *testing.T) {
	t.Parallel()
	master, srv := serverFixture(t, redisserver.Options{})
	replica, _ := serverFixture(t, redisserver.Options{})
	replica.replicate(master, srv.Addr())
	master.ask()
	before := master.runAfter(origin{}, randomVersion, time.Hour, "v")
	require.Equal(t, master.server, before.server.id)
	require.Equal(t, []version{{randomVersion, made}}, before.versions)
	require.Greater(t, master.runAfter(before.server, otherVersion, time.Hour, "v").server.offset, before.server.offset, "each heartbeat is a step of the stream")
	replica.replicate(master, srv.Addr())
	require.NoError(t, srv.Kill())
	replica.promote()
	all := replica.allOn(replica.channel("v"))

	after := replica.runAfter(before.server, otherVersion, time.Hour, "v")
	require.Equal(t, []version{{randomVersion, kept}}, after.versions, "taken over")
	require.Equal(t, replica.server, after.server.id)
	again := replica.runAfter(after.server, otherVersion, time.Hour, "v")
	require.Equal(t, []version{{randomVersion, kept}}, again.versions)
	require.Equal(t, []version{{randomVersion, kept}}, replica.runAfter(origin{}, otherVersion, time.Hour, "v").versions,
		"a new instance has nothing to object")
	require.Equal(t, []version{{randomVersion, kept}}, replica.runAfter(before.server, otherVersion, time.Hour, "v").versions,
		"nor has another one of the old ones")
	require.Empty(t, all)

	// One that has seen more of the old master than the replica had objects, once.
	more := origin{id: before.server.id, offset: before.server.offset + 1_000_000}
	require.Equal(t, []version{{otherVersion, made}}, replica.runAfter(more, otherVersion, time.Hour, "v").versions)
	require.Equal(t, "all", (<-all).Payload)
	for _, history := range []origin{more, before.server, after.server, {}} {
		require.Equal(t, []version{{otherVersion, made}}, replica.runAfter(history, randomVersion, time.Hour, "v").versions)
	}
	require.Empty(t, all)
}

func TestAPromotedReplicaThatMissedAHeartbeatHasANewVersion(t *testing.T) {
	t.Parallel()
	master, srv := serverFixture(t, redisserver.Options{})
	replica, _ := serverFixture(t, redisserver.Options{})
	master.runAfter(origin{}, randomVersion, time.Hour, "v", "w")
	replica.replicate(master, srv.Addr())
	require.NoError(t, replica.rdb.Do(t.Context(), "CLIENT", "KILL", "TYPE", "master").Err())
	require.NoError(t, replica.rdb.Do(t.Context(), "REPLICAOF", "127.0.0.1", "1").Err(), "a master that it cannot reach")
	before := master.runAfter(origin{}, randomVersion, time.Hour, "v", "w")
	before = master.runAfter(before.server, randomVersion, time.Hour, "v", "w")
	replica.promote()
	all := replica.allOn(replica.channel("w"))
	after := replica.runAfter(before.server, otherVersion, time.Hour, "v", "w")
	require.Equal(t, []version{{otherVersion, made}, {otherVersion, made}}, after.versions)
	require.Equal(t, "all", (<-all).Payload)
	require.Equal(t, after.versions, replica.runAfter(after.server, randomVersion, time.Hour, "v", "w").versions)
	require.Equal(t, replica.stored(otherVersion), replica.get("v"))
}

// A server's first replica gives it a new replication id, with none before: nothing is lost.
func TestTheFirstReplicaChangesNothing(t *testing.T) {
	t.Parallel()
	master, srv := serverFixture(t, redisserver.Options{})
	before := master.runAfter(origin{}, randomVersion, time.Hour, "v")
	require.NotEmpty(t, before.server.run)
	replica, _ := serverFixture(t, redisserver.Options{})
	replica.replicate(master, srv.Addr())
	master.ask()
	all := master.allOn(master.channel("v"))
	after := master.runAfter(before.server, otherVersion, time.Hour, "v")
	require.NotEqual(t, before.server.id, after.server.id)
	require.Equal(t, before.server.run, after.server.run)
	require.True(t, after.same)
	require.Equal(t, before.versions, after.versions)
	again := master.runAfter(after.server, otherVersion, time.Hour, "v")
	require.False(t, again.same)
	require.Equal(t, after.server.run, again.server.run, "it is not asked for every time")
	require.Equal(t, before.versions, master.runAfter(before.server, otherVersion, time.Hour, "v").versions)
	require.Empty(t, all)

	b := New(master.rdb, Options{Redial: func() { t.Error("dialled anew") }})
	require.False(t, b.follow(0, before.server, false, nil))
	require.False(t, b.follow(0, after.server, after.same, nil))
	b.settle(after.server.id)
	requireServer(t, b, after.server.id)
}

// A version that was made here before an instance's last heartbeat elsewhere may cover entries that this instance has
// invalidated elsewhere since.
func TestAVersionThatWasMadeWhileWritesWentElsewhereIsReplaced(t *testing.T) {
	t.Parallel()
	f, _ := serverFixture(t, redisserver.Options{})
	f.runAfter(origin{}, randomVersion, time.Hour, "v")
	elsewhere := origin{id: strings.Repeat("a", 40), offset: 1, run: "another"}
	f.ago = time.Minute
	require.Equal(t, []version{{randomVersion, made}}, f.runAfter(elsewhere, otherVersion, time.Hour, "v").versions, "it was made after that")
	eventually(t, "some time passes", func() bool {
		f.ago = time.Millisecond
		return f.runAfter(elsewhere, otherVersion, time.Hour, "v").versions[0].text == otherVersion
	})
	f.ago = time.Minute
	require.Equal(t, []version{{otherVersion, made}}, f.runAfter(elsewhere, randomVersion, time.Hour, "v").versions)
}

// A version that another script made is taken for one of this server by who knows no other.
func TestAVersionOfUnknownOriginIsAdopted(t *testing.T) {
	t.Parallel()
	f, _ := serverFixture(t, redisserver.Options{})
	all := f.allOn(f.channel("v"))
	for _, history := range []origin{{}, {id: f.server}} {
		require.NoError(t, f.rdb.Set(t.Context(), "v", randomVersion+":+", 0).Err())
		require.Equal(t, []version{{randomVersion, made}}, f.runAfter(history, otherVersion, time.Hour, "v").versions)
		require.Equal(t, f.stored(randomVersion), f.get("v"))
	}
	require.Empty(t, all)
	require.NoError(t, f.rdb.Set(t.Context(), "v", randomVersion+":+", 0).Err())
	elsewhere := origin{id: strings.Repeat("a", 40)}
	require.Equal(t, []version{{otherVersion, made}}, f.runAfter(elsewhere, otherVersion, time.Hour, "v").versions)
	require.Equal(t, "all", (<-all).Payload)
}

// Someone who does not know what there was before cannot say that nothing was lost.
func TestANewInstanceDoesNotTakeAVersionOver(t *testing.T) {
	t.Parallel()
	master, srv := serverFixture(t, redisserver.Options{})
	replica, _ := serverFixture(t, redisserver.Options{})
	before := master.runAfter(origin{}, randomVersion, time.Hour, "v")
	replica.replicate(master, srv.Addr())
	replica.promote()
	require.Equal(t, []version{{otherVersion, made}}, replica.runAfter(origin{}, otherVersion, time.Hour, "v").versions)
	require.Equal(t, []version{{otherVersion, made}}, replica.runAfter(before.server, randomVersion, time.Hour, "v").versions)
}

func TestARestartFromASnapshotHasANewVersion(t *testing.T) {
	t.Parallel()
	for _, withReplica := range []bool{false, true} {
		t.Run(fmt.Sprintf("replica %v", withReplica), func(t *testing.T) {
			t.Parallel()
			master, srv := serverFixture(t, redisserver.Options{})
			if withReplica {
				replica, _ := serverFixture(t, redisserver.Options{})
				replica.replicate(master, srv.Addr())
			}
			first := master.runAfter(origin{}, randomVersion, time.Hour, "v")
			require.NoError(t, master.rdb.Save(t.Context()).Err())
			second := master.runAfter(first.server, randomVersion, time.Hour, "v")
			second = master.runAfter(second.server, randomVersion, time.Hour, "v")
			require.Equal(t, first.versions, second.versions)
			require.NoError(t, srv.Kill())
			require.NoError(t, srv.Restart())
			master.ask()
			require.NotEqual(t, first.server.id, master.server)
			require.True(t, strings.HasPrefix(master.get("v"), randomVersion+":"), "the snapshot has brought it back")
			require.Equal(t, []version{{otherVersion, made}}, master.runAfter(second.server, otherVersion, time.Hour, "v").versions)
		})
	}
}

// A bus on a Redis that is replaced dials anew, says so, and hands on what the new one has.
func TestTheBusFollowsToAPromotedReplica(t *testing.T) {
	t.Parallel()
	master, srv := serverFixture(t, redisserver.Options{})
	replica, second := serverFixture(t, redisserver.Options{})
	replica.replicate(master, srv.Addr())
	master.ask() // its first replica gives it a new id
	var target atomic.Pointer[string]
	address := srv.Addr()
	target.Store(&address)
	r := newRigTo(t, func() string { return *target.Load() })
	h, _ := r.joined("a", time.Second)
	eventually(t, "a heartbeat", func() bool { return len(h.reports()) > 0 && h.latest().Err == nil })
	requireServer(t, r.bus, master.server)
	require.False(t, h.latest().Moved)
	redials, reports := r.redials.Load(), len(h.reports())

	// The old master goes on answering, as a replica of the new one. No heartbeat may come in between.
	require.NoError(t, master.rdb.Do(t.Context(), "CLIENT", "PAUSE", "60000", "WRITE").Err())
	eventually(t, "the replica has everything", func() bool { return master.offset() == replica.offset() })
	promoted := second.Addr()
	target.Store(&promoted)
	replica.promote()
	host, port, _ := strings.Cut(promoted, ":")
	require.NoError(t, master.rdb.Do(t.Context(), "REPLICAOF", host, port).Err())
	require.NoError(t, master.rdb.Do(t.Context(), "CLIENT", "UNPAUSE").Err())
	moved := func() *BeatReport {
		for _, b := range h.reports()[reports:] {
			if b.Moved {
				return &b
			}
		}
		return nil
	}
	eventually(t, "the move", func() bool { return moved() != nil })
	require.NoError(t, moved().Err)
	require.True(t, moved().Kept)
	require.Greater(t, r.redials.Load(), redials)
	eventually(t, "a proof by the new one", func() bool { return h.proven() && reaches(r.bus, replica.server) })
	eventually(t, "a message from the new one", func() bool { // its session may begin only now
		say(t, replica.rdb, "a", inv("k"))
		return h.count("message") > 0
	})
}

// A suspicion makes everybody dial anew, and the next heartbeat ends it.
func TestASuspicionIsDecidedByAHeartbeat(t *testing.T) {
	t.Parallel()
	_, srv := serverFixture(t, redisserver.Options{})
	r := newRigTo(t, srv.Addr)
	h, _ := r.joined("a", lasting)
	var id string
	eventually(t, "a heartbeat", func() bool {
		var known bool
		id, known = r.bus.Server()
		return known
	})
	require.Zero(t, r.redials.Load(), "the first server is no other server")
	require.True(t, r.bus.Reached(id))
	require.Zero(t, r.redials.Load())

	require.False(t, r.bus.Reached("another"))
	eventually(t, "the same again", func() bool { return reaches(r.bus, id) && r.redials.Load() >= 1 })
	eventually(t, "a proof", h.proven)
	for _, b := range h.reports() {
		require.False(t, b.Moved)
	}
}

func TestWhenToDialAnew(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"READONLY You can't write against a read only replica.":              true,
		"ERR Error running script (call to f_1): @user_script:1: -READONLY ": true,
		"MASTERDOWN Link with MASTER is down":                                true,
		"NOREPLICAS Not enough good replicas to write.":                      false,
		"LOADING Redis is loading":                                           false, "BUSY Redis is busy": false, "OOM command not allowed": false, "NOPERM no": false,
	} {
		require.Equal(t, want, leave(replyError(text), 1), text)
	}
	require.True(t, leave(errors.New("connection refused"), 1))
	noReplicas := replyError("NOREPLICAS Not enough good replicas to write.")
	var left []int
	for failing := 1; failing < 200; failing++ {
		if leave(noReplicas, failing) {
			left = append(left, failing)
		}
	}
	require.Equal(t, []int{3, 6, 12, 24, 48, 96, 144, 192}, left, "less and less often, up to a point")
}

// Connections that were made while nobody knew the server are made again if some led to another one.
func TestWhoWasReachedBeforeTheHeartbeatDecides(t *testing.T) {
	t.Parallel()
	redials := 0
	b := New(redis.NewClient(&redis.Options{}), Options{Redial: func() { redials++ }})
	good := func(id string) (moved bool) {
		moved = b.follow(0, origin{id: id}, false, nil)
		b.settle(id)
		return moved
	}
	require.True(t, b.Reached("a"))
	require.False(t, good("a"))
	require.Zero(t, redials)
	require.False(t, b.follow(0, origin{}, false, errors.New("gone")))
	require.Equal(t, 1, redials)
	require.True(t, b.Reached("a"))
	require.True(t, b.Reached("b"))
	require.True(t, good("a"), "what was written to b is to be repeated")
	require.Equal(t, 2, redials)
	require.False(t, good("a"))
	require.True(t, good("b"), "another one")
	require.Equal(t, 3, redials)
	require.False(t, good("b"))
	require.Equal(t, 3, redials)

	// A connection that leads elsewhere between the heartbeat and its report.
	require.False(t, b.Reached("a"))
	require.Equal(t, 4, redials)
	require.False(t, b.follow(0, origin{id: "b"}, false, nil))
	require.True(t, b.Reached("a"))
	b.settle("b")
	_, known := b.Server()
	require.False(t, known)
	require.Equal(t, 5, redials)
	require.True(t, good("b"), "what was written to a is to be repeated")
	require.True(t, reaches(b, "b"))

	// Strays are not forgotten while heartbeats fail.
	require.False(t, b.follow(0, origin{}, false, errors.New("gone")))
	require.True(t, b.Reached("a"))
	require.False(t, b.follow(0, origin{}, false, errors.New("gone")))
	require.True(t, good("b"))
	require.False(t, good("b"))
	require.NoError(t, b.client.Close())
}

// A server that does not tell who it is: only heartbeats that failed are a sign.
func TestAServerThatDoesNotTellMayHaveMovedAfterAFailure(t *testing.T) {
	t.Parallel()
	b := New(redis.NewClient(&redis.Options{}), Options{})
	require.False(t, b.follow(0, origin{}, false, nil), "the first")
	require.False(t, b.follow(0, origin{}, false, nil))
	require.False(t, b.follow(0, origin{}, false, errors.New("gone")))
	require.True(t, b.follow(0, origin{}, false, nil))
	require.False(t, b.follow(0, origin{}, false, nil))
	require.NoError(t, b.client.Close())
}

func reaches(b *Bus, id string) bool {
	got, known := b.Server()
	return known && got == id
}

func requireServer(t *testing.T, b *Bus, id string) {
	t.Helper()
	require.True(t, reaches(b, id))
}

// What runAfter makes of a version's age.
const (
	kept time.Duration = 0
	made time.Duration = -1
)

type replyError string

func (e replyError) Error() string { return string(e) }
func (replyError) RedisError()     {}
