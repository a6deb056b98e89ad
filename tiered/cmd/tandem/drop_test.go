package main

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/cluster"
)

func TestEachDivisionHasItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began, calls := time.Now(), 0
		err := inEach(t.Context(), make([]cluster.Division, 3), func(ctx context.Context, _ cluster.Division) error {
			calls++
			require.NoError(t, ctx.Err())
			<-ctx.Done()
			return fmt.Errorf("division %d: %w", calls, ctx.Err())
		})
		require.EqualError(t, err, "division 1: context deadline exceeded; division 2: context deadline exceeded; division 3: context deadline exceeded")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 3*callTimeout, time.Since(began))
	})
}

func TestReasonsAreGivenOnce(t *testing.T) {
	t.Parallel()
	require.NoError(t, reasons([]error{nil, nil}))
	require.EqualError(t, reasons([]error{nil, errors.New("a"), errors.New("b"), nil, errors.New("a")}), "a; b")
}
