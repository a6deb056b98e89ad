package tiered

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// miniredis does not know CLIENT TRACKING: the events are the test's own.
func newTracked(t *testing.T) (*redisServer, *source, *Cache[int]) {
	t.Helper()
	r, s := newRedis(t), newSource()
	return r, s, instance(t, r, s, func(o *Options[int]) { o.Tracking, o.MaxStaleness = true, time.Minute })
}

const stored = "tandem:{things}:k:k"

// The event of a stranger's DEL comes while the value that was read before is on its way into L1.
func TestAStrangersDeleteDuringALoad(t *testing.T) {
	t.Parallel()
	r, s, c := newTracked(t)
	read, letGo := s.holdNext()
	defer letGo()
	got := make(chan int, 1)
	go func() {
		v, _ := c.Get(soon(t), "k")
		got <- v
	}()
	<-read
	before := c.Stats().Tracked
	ticket := c.local.Ticket("k")
	c.foreign.judge([]string{"k"})
	require.True(t, c.local.Good("k", ticket), "its lease is still there")

	r.Del(stored)
	c.foreign.changed([]string{"k", "nobody's"})
	eventually(t, "the eviction", func() bool { return c.Stats().Tracked > before })
	require.False(t, c.local.Good("k", ticket))
	letGo()
	require.Zero(t, <-got)
	require.False(t, c.local.Holds("k"))
	require.EqualValues(t, 1, c.Stats().Tracked-before, "a key that does not concern this process is not asked about")
}

func TestStrangersKeysThatCannotBeAskedAbout(t *testing.T) {
	t.Parallel()
	r, s, c := newTracked(t)
	s.write("k")
	require.Equal(t, 1, get(t, c, "k"))
	c.foreign.changed([]string{"k"}) // Redis still has it
	c.foreign.judge([]string{"k"})
	require.True(t, c.local.Holds("k"))

	// Another instance's lease is the load of something newer.
	lease := r.client(t).HSet(soon(t), stored, c.schema.Field()+".l", fmt.Sprintf("%013d:%032d", 1, 1))
	require.NoError(t, lease.Err())
	require.NoError(t, r.client(t).HDel(soon(t), stored, c.schema.Field()).Err())
	c.foreign.judge([]string{"k"})
	require.False(t, c.local.Holds("k"))

	r.Del(stored)
	require.Equal(t, 1, get(t, c, "k"))
	r.Close()
	c.foreign.judge([]string{"k"})
	require.False(t, c.local.Holds("k"), "where Redis does not say, it is dropped")
}
