package redisclient_test

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redisclient"
)

// sentinel makes a miniredis answer for the master that it is told.
type sentinel struct {
	*miniredis.Miniredis
	master atomic.Pointer[string]
}

func newSentinel(t *testing.T, master string) *sentinel {
	t.Helper()
	s := &sentinel{Miniredis: miniredis.RunT(t)}
	s.master.Store(&master)
	require.NoError(t, s.Server().Register("SENTINEL", func(c *server.Peer, _ string, args []string) {
		if strings.EqualFold(args[0], "get-master-addr-by-name") {
			host, port, _ := net.SplitHostPort(*s.master.Load())
			c.WriteStrings([]string{host, port})
			return
		}
		c.WriteLen(0)
	}))
	return s
}

func TestAClientForSentinelFollowsTheMasterAfterAReset(t *testing.T) {
	t.Parallel()
	first, second := miniredis.RunT(t), miniredis.RunT(t)
	require.NoError(t, first.Set("who", "first"))
	require.NoError(t, second.Set("who", "second"))
	s := newSentinel(t, first.Addr())
	rdb := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "main", SentinelAddrs: []string{s.Addr()}})
	t.Cleanup(func() { _ = rdb.Close() })
	d := derive(t, rdb)
	require.Equal(t, "first", d.Get(t.Context(), "who").Val())

	address := second.Addr()
	s.master.Store(&address)
	require.Equal(t, "first", d.Get(t.Context(), "who").Val(), "an open connection stays where it is")
	d.Reset()
	require.Equal(t, "second", d.Get(t.Context(), "who").Val())
}

func TestResetEndsCallsAndSubscriptionsAndNothingElse(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	l := &line{}
	d := derive(t, given(t, redis.Options{Addr: m.Addr(), Dialer: l.Dial}))
	ps := d.Subscribe(t.Context(), "c")
	t.Cleanup(func() { _ = ps.Close() })
	_, err := ps.Receive(t.Context())
	require.NoError(t, err)
	require.NoError(t, d.Set(t.Context(), "k", "v", 0).Err())

	d.Reset()
	_, err = ps.ReceiveTimeout(redisclient.WithoutDial(t.Context()), patience)
	require.Error(t, err)
	for range 20 {
		require.Equal(t, "v", d.Get(t.Context(), "k").Val(), "a pooled connection that was closed is not handed out")
	}
}

func TestResetReachesAConnectionThatIsBeingDialled(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	dialling, let := make(chan struct{}), make(chan struct{})
	var dials atomic.Int64
	d := derive(t, given(t, redis.Options{Addr: m.Addr(), Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dials.Add(1) == 1 {
			close(dialling)
			<-let
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}))
	failed := make(chan error, 1)
	go func() { failed <- d.Ping(t.Context()).Err() }()
	<-dialling
	d.Reset()
	close(let)
	require.ErrorContains(t, <-failed, "reset")
	require.NoError(t, d.Ping(t.Context()).Err())
}
