package source_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/source"
)

func TestAMistakeShows(t *testing.T) {
	t.Parallel()
	u := source.UserAt("user:1", 3)
	require.NoError(t, source.CheckUser("user:1", u))
	require.ErrorContains(t, source.CheckUser("user:2", u), `user:2: got the value of "user:1"`)
	require.Error(t, source.CheckUser("user:1", source.User{}))
	require.Error(t, source.CheckUser("user:1", source.User{ID: "user:1"}))

	mixed := u
	mixed.Version++
	require.ErrorContains(t, source.CheckUser("user:1", mixed), "in version 4, which is")
}

func TestSourceCountsAndTakesItsTime(t *testing.T) {
	t.Parallel()
	s := source.New(10 * time.Millisecond)
	row := s.Row("user:1")
	require.Same(t, row, s.Row("user:1"))
	require.EqualValues(t, 2, row.Change())

	u, err := s.Load(t.Context(), "user:1")
	require.NoError(t, err)
	require.Equal(t, source.UserAt("user:1", 2), u)
	n, took := row.Loads()
	require.EqualValues(t, 1, n)
	require.GreaterOrEqual(t, took, 10*time.Millisecond)
	_, err = s.Load(t.Context(), "user:2")
	require.NoError(t, err)
	n, took = s.Loads()
	require.EqualValues(t, 2, n)
	require.GreaterOrEqual(t, took, 10*time.Millisecond)
	require.ElementsMatch(t, []string{"user:1", "user:2"}, s.Keys())

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Load(ctx, "user:1")
	require.ErrorIs(t, err, context.Canceled)
}

func TestAHeldLoadReturnsWhatItReadBefore(t *testing.T) {
	t.Parallel()
	s := source.New(0)
	row := s.Row("user:1")
	hold := row.Hold()
	got := make(chan source.User, 1)
	go func() {
		u, _ := s.Load(context.WithoutCancel(t.Context()), "user:1")
		got <- u
	}()
	<-hold.Reached
	row.Change()
	u, err := s.Load(t.Context(), "user:1")
	require.NoError(t, err, "only the next load is held")
	require.EqualValues(t, 2, u.Version)
	require.Empty(t, got)
	hold.Release()
	hold.Release()
	require.EqualValues(t, 1, (<-got).Version)
}
