package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/examples/internal/running"
	"github.com/tandemcache/tandem/tests/redisserver"
)

func TestMain(m *testing.M) { running.Main(m, main) }

// fleet starts processes on one database and one Redis.
func fleet(t *testing.T, redis *redisserver.Server, n int, args ...string) []*running.Process {
	t.Helper()
	args = append([]string{"-db", filepath.Join(t.TempDir(), "profiles.db"), "-redis", redis.Addr()}, args...)
	ps := make([]*running.Process, n)
	for i := range ps {
		ps[i] = running.Start(t, args...)
	}
	for _, p := range ps {
		p.AwaitReady(t)
	}
	return ps
}

// change makes a change that every process hears of. Where the machine is so slow that Redis is too late, it is made again.
func change(t *testing.T, p *running.Process, method, path, body string) {
	t.Helper()
	require.Eventually(t, func() bool {
		status, answer, err := p.Do(method, path, body)
		assert.Contains(t, []int{http.StatusNoContent, http.StatusAccepted}, status, "%s %v", answer, err)
		return status == http.StatusNoContent
	}, running.Deadline, time.Millisecond)
}

const mayPay = "/users/ann/permissions/pay"

// may asks p whether the user may pay.
func may(t *testing.T, p *running.Process) bool {
	status, body, err := p.Do(http.MethodGet, mayPay, "")
	assert.Contains(t, []int{http.StatusNoContent, http.StatusForbidden}, status, "%s %v", body, err)
	return status == http.StatusNoContent
}

// ann makes a user who may pay, as every process knows.
func ann(t *testing.T, ps []*running.Process) {
	t.Helper()
	change(t, ps[0], http.MethodPut, "/users/ann", `{"name":"Ann"}`)
	change(t, ps[0], http.MethodPut, mayPay, "")
	for _, p := range ps {
		running.Within(t, maxStaleness, func() bool { return may(t, p) })
	}
}

// revoked asserts that the permission, which the first process has just revoked, is gone there, and in time everywhere.
func revoked(t *testing.T, ps []*running.Process) {
	t.Helper()
	var asking sync.WaitGroup
	for i, p := range ps {
		bound := maxStaleness
		if i == 0 {
			bound = 0
		}
		asking.Go(func() {
			t.Logf("process %d: granted for the last time after %v", i, running.Never(t, bound, func() bool { return may(t, p) }))
		})
	}
	asking.Wait()
}

func TestAnUpdateIsSeenByTheOthers(t *testing.T) {
	t.Parallel()
	ps := fleet(t, redisserver.Run(t, redisserver.Options{}), 3)
	for n, p := range slices.Concat(ps, ps) {
		name := fmt.Sprintf("name %d", n)
		change(t, p, http.MethodPut, "/users/bob", fmt.Sprintf(`{"name":%q}`, name))
		for _, other := range ps {
			var u User
			known := func() bool { return other.Get(t, "/users/bob", &u) == http.StatusOK && u.Name == name }
			if other == p {
				require.True(t, known())
			}
			running.Within(t, maxStaleness, known)
		}
	}
}

func TestARevokedPermissionIsGone(t *testing.T) {
	t.Parallel()
	ps := fleet(t, redisserver.Run(t, redisserver.Options{}), 3)
	ann(t, ps)
	change(t, ps[0], http.MethodDelete, mayPay, "")
	revoked(t, ps)
}

// The message is lost: nobody listens when it is sent.
func TestARevokedPermissionIsGoneThoughTheMessageIsLost(t *testing.T) {
	t.Parallel()
	redis := redisserver.Run(t, redisserver.Options{})
	ps := fleet(t, redis, 3)
	ann(t, ps)
	require.NoError(t, redis.Client().ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err())
	change(t, ps[0], http.MethodDelete, mayPay, "")
	revoked(t, ps)
}

// Redis is away: the process answers that not everybody knows yet, and the others find out in time all the same.
func TestARevokedPermissionIsGoneWithoutRedis(t *testing.T) {
	t.Parallel()
	redis := redisserver.Run(t, redisserver.Options{})
	ps := fleet(t, redis, 3)
	ann(t, ps)
	require.NoError(t, redis.Kill())
	ps[0].Send(t, http.StatusAccepted, http.MethodDelete, mayPay, "")
	revoked(t, ps)
	require.NoError(t, redis.Restart())
	for _, p := range ps {
		p.AwaitReady(t)
		require.False(t, may(t, p))
	}
}

const (
	users       = 200
	permissions = 20 // of each
)

func userPath(i int) string { return fmt.Sprintf("/users/u%d", i) }

// company makes users in the database that the processes share.
func company(t *testing.T, file string) {
	t.Helper()
	s, err := openStore(t.Context(), file)
	require.NoError(t, err)
	defer s.Close()
	for n, fill := range map[int]string{
		users:               `INSERT INTO users SELECT 'u' || (i - 1), '0' FROM n`,
		users * permissions: fmt.Sprintf(`INSERT INTO permissions SELECT 'u' || (i %% %d), 'p' || (i / %d) FROM n`, users, users),
	} {
		numbers := fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) `, n)
		_, err := s.db.ExecContext(t.Context(), numbers+fill)
		require.NoError(t, err)
	}
}

// With the cache each profile is read about once for all processes, and again after a change. No answer is older than what
// had been changed by the same process before, nor, after maxStaleness, by another.
func TestWithAndWithoutTheCache(t *testing.T) {
	redis := redisserver.Run(t, redisserver.Options{})
	subject := func(args ...string) running.Subject {
		file := filepath.Join(t.TempDir(), "profiles.db")
		company(t, file)
		ps := fleet(t, redis, 3, append(args, "-db", file)...)
		for i := range users { // each run begins with what is asked for often
			for _, p := range ps {
				p.Send(t, http.StatusOK, http.MethodGet, userPath(i), "")
			}
		}
		var names [users]name
		return running.Subject{Processes: ps, Request: func(random *rand.Rand) bool {
			n, p := running.Skewed(random, users), random.IntN(len(ps))
			switch kind := random.IntN(500); {
			case kind == 0:
				return names[n].change(t, ps, p, userPath(n))
			case kind <= 100:
				return names[n].check(t, ps, p, userPath(n))
			default:
				status, _, err := ps[p].Do(http.MethodGet, userPath(n)+"/permissions/p7", "")
				return assert.NoError(t, err) && assert.Equal(t, http.StatusNoContent, status)
			}
		}}
	}
	with, without := running.Compare(t, "reads of the database", subject(), subject("-cache=false"))
	require.Greater(t, without.SourcePerRequest(), 0.9)
	require.Less(t, with.SourcePerRequest(), 0.1)
}

// name is that of a user: a number that only rises.
type name struct {
	mu      sync.Mutex // held while it is changed
	known   sync.Mutex // protects changes
	changes []rename
}

// rename says that a process has answered that the name is number now, and whether the others have been told.
type rename struct {
	number  int
	process int
	told    bool
	at      time.Time
}

func (n *name) change(t *testing.T, ps []*running.Process, process int, path string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	number := len(n.changes) + 1
	status, body, err := ps[process].Do(http.MethodPut, path, fmt.Sprintf(`{"name":"%d"}`, number))
	n.known.Lock()
	defer n.known.Unlock()
	n.changes = append(n.changes, rename{number: number, process: process, told: status == http.StatusNoContent, at: time.Now()})
	return assert.NoError(t, err) && assert.Contains(t, []int{http.StatusNoContent, http.StatusAccepted}, status, "%s", body)
}

// least returns the oldest name that a process may answer from now on.
func (n *name) least(process int) (number int) {
	n.known.Lock()
	defer n.known.Unlock()
	for _, c := range n.changes {
		if c.process == process || (c.told && time.Since(c.at) > maxStaleness) {
			number = c.number
		}
	}
	return number
}

func (n *name) check(t *testing.T, ps []*running.Process, process int, path string) bool {
	least := n.least(process)
	var u User
	if !assert.Equal(t, http.StatusOK, ps[process].Get(t, path, &u)) {
		return false
	}
	var number int
	_, err := fmt.Sscan(u.Name, &number)
	return assert.NoError(t, err) && assert.GreaterOrEqual(t, number, least)
}
