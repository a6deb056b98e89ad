package tiered

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestALocalHitDoesNotAllocate(t *testing.T) {
	for name, change := range map[string]func(*Options[int]){
		"": func(*Options[int]) {}, "with RefreshAfter": func(o *Options[int]) { o.RefreshAfter = time.Minute },
	} {
		t.Run(name, func(t *testing.T) {
			r, s := newRedis(t), newSource()
			c := instance(t, r, s, change)
			get(t, c, "k")
			ctx := context.Background()
			before := c.Stats().Commands
			// So many that the heartbeats meanwhile allocate less than one for each.
			require.Zero(t, testing.AllocsPerRun(100_000, func() {
				if _, err := c.Get(ctx, "k"); err != nil {
					t.Fatal(err)
				}
			}))
			require.Equal(t, before, c.Stats().Commands)
		})
	}
}
