package redisserver

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTail(t *testing.T) {
	t.Parallel()
	var log tail
	require.Empty(t, log.String())

	const lines = 10_000
	for i := range lines {
		_, err := fmt.Fprintf(&log, "line %d\n", i)
		require.NoError(t, err)
	}

	got := log.String()
	require.LessOrEqual(t, len(got), tailBytes)
	require.Greater(t, len(got), tailBytes/2)
	require.True(t, strings.HasPrefix(got, "line "), "starts with a whole line")
	require.True(t, strings.HasSuffix(got, fmt.Sprintf("\nline %d\n", lines-1)))
	require.True(t, log.contains("line 9999"))

	log.reset()
	require.Empty(t, log.String())
}
