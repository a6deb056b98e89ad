package tiered

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote"
)

// A Set whose caller was told that it is pending arrives after the next change of the key: see late.
func TestC3AnEarlierSetArrivesLater(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(c *Cache[int], v int) error{
		"Set":            func(c *Cache[int], v int) error { return c.Set(soon(t), "k", v) },
		"SetMany":        func(c *Cache[int], v int) error { return c.SetMany(soon(t), map[string]int{"k": v, "other": v}) },
		"Invalidate":     func(c *Cache[int], _ int) error { return c.Invalidate(soon(t), "other", "k") },
		"InvalidateTags": func(c *Cache[int], _ int) error { return c.InvalidateTags(soon(t), "tag") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, r rig) {
				s := newSource()
				f := fleet(t, 2, r, s, func(o *Options[int]) {
					o.RedisTimeout, o.Tags = 4*time.Second, func(string, int) []string { return []string{"tag"} }
				})
				require.NoError(t, f[0].Set(soon(t), "k", 0)) // Redis knows the script
				arrive := make(chan struct{})
				var once sync.Once
				sent := make(chan struct{})
				r.intercept(func(cmd string, args []string) error {
					if isSet(cmd, args) || isScript(cmd, args, 2, 9) {
						first := false
						once.Do(func() { first = true })
						if first {
							close(sent)
							<-arrive
						}
					}
					return nil
				})
				letGo := sync.OnceFunc(func() { close(arrive) })
				defer letGo()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				old := make(chan error, 1)
				go func() { old <- f[0].Set(ctx, "k", s.write("k")) }()
				wait(t, "the Set", sent)
				require.ErrorIs(t, wait(t, "its caller", old), ErrPending)

				require.ErrorIs(t, write(f[0], s.write("k")), ErrPending)
				letGo()
				first, err := f[0].encode("k", 1, nil)
				require.NoError(t, err)
				eventually(t, "the first one has stored its version", func() bool {
					raw, err := readsOf(f[0], "k").Get(soon(t), "k")
					require.NoError(t, err)
					env, err := remote.Decode(raw, "k")
					return err == nil && bytes.Equal(env.Payload, first)
				})
				require.Equal(t, 2, get(t, f[0], "k"), "C2")
				eventually(t, "its invalidation", func() bool { return f[0].Health().PendingKeys == 0 })
				eventually(t, "the other has heard", func() bool { return get(t, f[1], "k") == 2 })
				require.NoError(t, write(f[0], s.write("k")), "nothing can be late any more")
			})
		})
	}
}
