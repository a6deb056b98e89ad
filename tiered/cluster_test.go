package tiered

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// One slot of a node refuses, as while it is migrated: its keys are named and repeated, and the others of the node are done.
func TestC6OnePartitionOfANodeRefuses(t *testing.T) {
	t.Parallel()
	r, b := newClusterRig(t), newBulk()
	f := bulkFleet(t, 2, r, b)
	keys := names("k", 200)
	inside, _ := strings.CutSuffix(r.entry("k0"), "k:k0")
	var refused []string
	beside := 0
	for _, key := range keys {
		switch {
		case strings.HasPrefix(r.entry(key), inside):
			refused = append(refused, key)
		case r.mastersOf("k0", key) == 1:
			beside++
		}
	}
	require.Greater(t, len(refused), 1)
	require.Greater(t, beside, 1)
	for what, write := range map[string]func() error{
		"Invalidate": func() error { return f[0].Invalidate(soon(t), keys...) },
		"SetMany": func() error {
			values := map[string]int{}
			for _, key := range keys {
				values[key] = b.version(key)
			}
			return f[0].SetMany(soon(t), values)
		},
	} {
		for _, c := range f {
			getMany(t, c, keys...)
		}
		r.intercept(func(cmd string, args []string) error {
			if (isSet(cmd, args) || isScript(cmd, args, len(refused), 2)) && strings.HasPrefix(args[2], inside) {
				return errors.New("TRYAGAIN Multiple keys request during rehashing of slot")
			}
			return nil
		})
		want := map[string]int{}
		for _, key := range keys {
			want[key] = b.write(key)
		}
		err := write()
		require.ErrorIs(t, err, ErrPending, what)
		require.ElementsMatch(t, refused, keysNamed(t, err), what)
		require.Equal(t, len(refused), f[0].Health().PendingKeys, what)
		require.Equal(t, want, getMany(t, f[0], keys...), what)
		r.up()
		eventually(t, "the repetition", func() bool { return f[0].Health().PendingKeys == 0 })
		eventually(t, "the other hears of all", func() bool {
			for key, v := range getMany(t, f[1], keys...) {
				if v != want[key] {
					return false
				}
			}
			return true
		})
	}
}
