//go:build unix

package main

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/redisserver"
)

// A process that was stopped, and goes on with what it knew, grants nothing from then.
func TestARevokedPermissionIsGoneInAProcessThatWasStopped(t *testing.T) {
	t.Parallel()
	ps := fleet(t, redisserver.Run(t, redisserver.Options{}), 3)
	ann(t, ps)
	stopped := ps[2]
	require.NoError(t, stopped.Pause())
	defer stopped.Resume() //nolint:errcheck // so that it can end if the test fails
	change(t, ps[0], http.MethodDelete, mayPay, "")
	revoked(t, ps[:2]) // takes longer than the bound
	require.NoError(t, stopped.Resume())
	require.False(t, may(t, stopped))
}
