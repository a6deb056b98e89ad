package tiered

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// Servers that come and go, as pods do, leave nothing behind but what was counted.
func TestNodesThatAreGone(t *testing.T) {
	t.Parallel()
	r, s := newClusterRig(t), newSource()
	c := instance(t, r, s)
	there := len(c.allNodes())
	var sent uint64
	for i := range 100 {
		h, err := c.bus.host(fmt.Sprintf("127.0.0.1:%d", 50000+i))
		require.NoError(t, err)
		n := c.node(h)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, _ = n.reads.Get(ctx, "k")
		sent += n.reads.Commands()
		c.bus.forget(h.addr)
	}
	require.LessOrEqual(t, len(c.allNodes()), there+1)
	require.Positive(t, sent)
	require.GreaterOrEqual(t, c.Stats().Commands, sent)
}
