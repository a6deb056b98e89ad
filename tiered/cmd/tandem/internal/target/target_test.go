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
}

func TestAPasswordIsNotPrinted(t *testing.T) {
	t.Parallel()
	const encode = "have to be percent-encoded"
	for addr, want := range map[string]string{
		"redis://me:Sup3r@localhost:port":          `invalid port ":port"`,
		"redis://me:Sup3r@localhost:6379/x":        "invalid database number",
		"redis://me:Sup3r@localhost:6379?nope=1":   "unexpected option: nope",
		"nope://me:Sup3r@localhost:6379":           "invalid URL scheme: nope",
		"redis://:Sup3r/x@h:6379":                  encode,
		"redis://:12/Sup3r@h:6379":                 encode,
		"redis://:12/3/Sup3r@h:6379":               encode,
		"redis://:12?Sup3r@h:6379":                 encode,
		"redis://:12#Sup3r@h:6379":                 encode,
		"redis://:Sup3r#x@h:6379":                  encode,
		"redis://:Sup3r%zz@h:1":                    encode,
		"redis://:Sup3r x@h:1":                     encode,
		"redis://:Sup3r\x01@h:1":                   encode,
		"redis://:Sup3r@b/c@h:1":                   encode,
		"redis://:Sup3r@b/c@h:x":                   `invalid port ":x"`,
		"redis://:Sup3r/c@h:1/x":                   "invalid database number",
		"redis://:Sup3r@h:6379/x?client_name=a@b":  encode,
		"me:Sup3r@localhost:6379":                  "in a redis:// URL alone",
		"Sup3r@localhost:6379":                     "in a redis:// URL alone",
		"redis://u:p%zz@h:1":                       encode,
		"redis://:a@b/c@h:x":                       `invalid port ":x"`,
		"rediss://me:Sup3r://x@h:6379":             encode,
		"redis://me:Sup3r@h:6379/0?db=1#Sup3r@h:1": encode,
	} {
		_, err := target.Parse(addr, -1)
		require.ErrorContains(t, err, want, addr)
		require.NotContains(t, err.Error(), "Sup3r", addr)
		require.NotContains(t, err.Error(), "%zz", addr)
		require.NotContains(t, err.Error(), "b/c", addr)
	}
	for _, addr := range []string{"redis://:Sup3r%2Fx@h:6379", "redis://:Sup3r@h:6379?client_name=a@b", "redis://:Sup3r@h:6379#a"} {
		opt, err := target.Parse(addr, -1)
		require.NoError(t, err)
		require.Equal(t, "h:6379", opt.Addr)
	}
}
