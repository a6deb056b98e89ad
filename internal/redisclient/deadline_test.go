package redisclient_test

import (
	"context"
	"io"
	"os"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redisclient"
)

func TestWithoutDialASubscriptionOnlyReportsThatItsConnectionIsGone(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	var l line
	d := derive(t, given(t, redis.Options{Addr: m.Addr(), Dialer: l.Dial}))
	ctx := redisclient.WithoutDial(t.Context())

	ps := d.Subscribe(t.Context())
	defer func() { _ = ps.Close() }()
	require.Error(t, ps.Subscribe(ctx, "c"), "there is no connection yet, and none is opened")
	require.Zero(t, l.dialled.Load())

	require.NoError(t, ps.Subscribe(t.Context(), "c"))
	for range 2 { // "c" from the refused call is remembered, and subscribed with the connection
		_, err := ps.ReceiveTimeout(ctx, patience)
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, l.dialled.Load())
	require.NoError(t, l.last.Load().Hangup())
	_, err := ps.ReceiveTimeout(ctx, patience)
	require.ErrorIs(t, err, io.EOF)
	for range 3 {
		_, err = ps.ReceiveTimeout(ctx, patience)
		require.ErrorContains(t, err, "the subscription's connection is gone")
		require.ErrorContains(t, ps.Subscribe(ctx, "d"), "the subscription's connection is gone")
	}
	require.EqualValues(t, 1, l.dialled.Load())
}

func TestWithoutDialTheGivenClientDials(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	rdb := given(t, redis.Options{Addr: m.Addr()})
	derive(t, rdb)
	ps := rdb.Subscribe(redisclient.WithoutDial(t.Context()), "c")
	defer func() { _ = ps.Close() }()
	_, err := ps.ReceiveTimeout(redisclient.WithoutDial(t.Context()), patience)
	require.NoError(t, err)
}

type contextKey struct{}

func TestDeadline(t *testing.T) {
	t.Parallel()
	parent, cancel := context.WithCancel(context.WithValue(context.Background(), contextKey{}, "value"))
	at := time.Now().Add(time.Hour)
	ctx := redisclient.Deadline(parent, at)
	got, ok := ctx.Deadline()
	require.True(t, ok)
	require.Equal(t, at, got)
	require.Equal(t, "value", ctx.Value(contextKey{}))
	require.NoError(t, ctx.Err())
	cancel()
	<-ctx.Done()
	require.ErrorIs(t, ctx.Err(), context.Canceled)
}

func TestDeadlineBoundsARead(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	d := derive(t, given(t, redis.Options{Addr: m.Addr()}))
	ps := d.Subscribe(t.Context(), "c")
	defer func() { _ = ps.Close() }()
	_, err := ps.ReceiveTimeout(t.Context(), patience)
	require.NoError(t, err)
	began := time.Now()
	_, err = ps.ReceiveTimeout(redisclient.Deadline(redisclient.WithoutDial(t.Context()), time.Now().Add(100*time.Millisecond)), 0)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.GreaterOrEqual(t, time.Since(began), 100*time.Millisecond)
	require.Less(t, time.Since(began), patience/2)
}
