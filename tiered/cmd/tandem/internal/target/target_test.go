package target_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/target"
)

func TestParse(t *testing.T) {
	t.Setenv("REDISCLI_AUTH", "from the environment")

	opt, err := target.Parse("localhost:7000", -1)
	require.NoError(t, err)
	require.Equal(t, "localhost:7000", opt.Addr)
	require.Zero(t, opt.DB)
	require.Equal(t, "from the environment", opt.Password)

	opt, err = target.Parse("redis://me:secret@localhost:7000/3", -1)
	require.NoError(t, err)
	require.Equal(t, "localhost:7000", opt.Addr)
	require.Equal(t, 3, opt.DB)
	require.Equal(t, "secret", opt.Password)

	opt, err = target.Parse("redis://localhost:7000/3", 5)
	require.NoError(t, err)
	require.Equal(t, 5, opt.DB)

	opt, err = target.Parse("rediss://localhost:7000", -1)
	require.NoError(t, err)
	require.NotNil(t, opt.TLSConfig)
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"", "localhost", "6379", "http://localhost:6379", "redis://localhost:6379/x", ":::"} {
		_, err := target.Parse(addr, -1)
		require.Error(t, err, addr)
	}
	_, err := target.Parse("redis://me:secret@localhost:port", -1)
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret")
}
