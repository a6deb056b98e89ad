package tiered

import (
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
	eventually(t, "the outage is known", func() bool { return !c.Health().RemoteTrusted })
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
