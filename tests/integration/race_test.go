package integration

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered"
)

// C4: a load that read the old version is under way on one instance while another writes. 50 rounds each for Invalidate and
// Set, by the other instance and by the loading one itself; then the writer, the loader and an instance that never had the
// key are asked, and asked again once everything has settled.
func TestAnOldLoadAgainstAWrite(t *testing.T) {
	for name, write := range map[string]func(context.Context, *tiered.Cache[Value], *source, string) error{
		"Invalidate": func(ctx context.Context, c *tiered.Cache[Value], s *source, key string) error {
			s.write(key)
			return c.Invalidate(ctx, key)
		},
		"Set": func(ctx context.Context, c *tiered.Cache[Value], s *source, key string) error {
			return c.Set(ctx, key, s.write(key))
		},
	} {
		for who, writes := range map[string]int{"by another instance": 1, "by the loading instance": 0} {
			t.Run(name+" "+who, func(t *testing.T) {
				onBoth(t, func(t *testing.T, r *rig) {
					s := newSource(0)
					f := fleet(t, 3, r, s, calm)
					loader, writer, cold := f[0], f[writes], f[2]
					stale := map[string]int{}
					const rounds = 50
					for round := range rounds {
						key := fmt.Sprintf("raced:%d", round)
						read, letGo := s.holdNext()
						old := make(chan int64, 1)
						go func() {
							v, _ := loader.Get(context.Background(), key)
							old <- v.Version
						}()
						wait(t, "the load", read)
						heard := loader.Stats().Received
						require.NoError(t, write(soon(t), writer, s, key))
						if get(t, writer, key) != 1 { // C2, with the old load still running
							stale["writer, at once"]++
						}
						eventually(t, "the loader hears", func() bool { return loader.Stats().Received > heard })
						letGo()
						require.Zero(t, wait(t, "the old load", old))
						for range 2 {
							for who, c := range map[string]*tiered.Cache[Value]{"writer": writer, "loader": loader, "cold": cold} {
								if get(t, c, key) != 1 {
									stale[who]++
								}
							}
						}
					}
					t.Logf("%d rounds: stale answers %v, fills refused %d", rounds, stale, loader.Stats().Refused)
					require.Empty(t, stale)
					require.EqualValues(t, rounds, loader.Stats().Refused)
				})
			})
		}
	}
}
