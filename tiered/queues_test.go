package tiered

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHealthOfQueues(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	c := lazyInstance(t, r, s, func(o *Options[int]) { o.MaxLoads = 1 })
	require.NoError(t, c.Ready(soon(t)))
	h := c.Health()
	require.Equal(t, Health{Ready: true, LocalTrusted: true, RemoteTrusted: true, ProofAge: h.ProofAge}, h)
	r.down()
	eventually(t, "the outage is known", func() bool { return away(c) })
	read, letGo := s.holdNext()
	defer letGo()
	one := getAsync(soon(t), c, "one")
	wait(t, "the load", read)
	two := getAsync(soon(t), c, "two")
	eventually(t, "the other one waits", func() bool { return c.Health().LoadsWaiting == 1 })
	require.Equal(t, 2, c.Health().Flights)
	letGo()
	wait(t, "the one", one)
	wait(t, "the other", two)
	eventually(t, "nobody waits", func() bool { h := c.Health(); return h.LoadsWaiting == 0 && h.Flights == 0 })
	require.NoError(t, c.Close())
	require.True(t, c.Health().Closed)
}

func TestHealthOfInvalidationsThatWait(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	c := instance(t, r, newSource(), func(o *Options[int]) { o.RedisTimeout = patience })
	require.NoError(t, c.Invalidate(soon(t), "k")) // Redis knows the script
	gate := make(chan struct{})
	under := make(chan struct{}, 2*maxSent)
	r.intercept(func(cmd string, args []string) error {
		if isInvalidate(cmd, args) {
			under <- struct{}{}
			<-gate
		}
		return nil
	})
	const waiting = 3
	done := make(chan error)
	for i := range maxSent + waiting {
		go func() { done <- c.Invalidate(soon(t), fmt.Sprint(i)) }()
		if i < maxSent {
			wait(t, "the call to Redis", under)
			continue
		}
		eventually(t, "it waits", func() bool { return c.Health().InvalidationsWaiting == i+1-maxSent })
	}
	close(gate)
	for range maxSent + waiting {
		require.NoError(t, wait(t, "an invalidation", done))
	}
	require.Zero(t, c.Health().InvalidationsWaiting)
}
