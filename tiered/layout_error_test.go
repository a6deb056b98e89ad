package tiered

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/pubsub"
)

func TestErrorsOfPartitionsAreExplained(t *testing.T) {
	t.Parallel()
	refused, down := errors.New("NOPERM no"), errors.New("connection refused")
	for name, tt := range map[string]struct {
		err, is error
		says    string
	}{
		"one":               {refused, pubsub.ErrNoPermission, pubsub.ErrNoPermission.Error() + ": NOPERM no"},
		"unknown":           {down, down, "connection refused"},
		"joined by itself":  {errors.Join(refused), refused, pubsub.ErrNoPermission.Error() + ": NOPERM no"},
		"many of a kind":    {errors.Join(down, down, down), down, "connection refused (one of 3 errors)"},
		"one tells":         {errors.Join(down, down, refused, down), pubsub.ErrNoPermission, pubsub.ErrNoPermission.Error() + ": NOPERM no (one of 4 errors)"},
		"wrapped, not many": {fmt.Errorf("it: %w", down), down, "it: connection refused"},
	} {
		got := explained(tt.err)
		require.ErrorIs(t, got, tt.is, name)
		require.EqualError(t, got, tt.says, name)
	}
}
