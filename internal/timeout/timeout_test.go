package timeout

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

type key struct{}

func TestContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g Group
		parent := context.WithoutCancel(context.WithValue(t.Context(), key{}, "v"))
		for _, after := range []time.Duration{250 * time.Millisecond, 251 * time.Millisecond, 100 * time.Millisecond, time.Second, 0, -time.Second} {
			at := time.Now().Add(after)
			ctx, cancel := g.Context(parent, at)
			got, ok := ctx.Deadline()
			require.True(t, ok)
			require.Equal(t, at, got)
			require.Equal(t, "v", ctx.Value(key{}))
			if after > 0 {
				require.NoError(t, ctx.Err())
				time.Sleep(after - 1)
				require.NoError(t, ctx.Err(), after)
			}
			<-ctx.Done()
			require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
			require.LessOrEqual(t, time.Since(at), max(grain, -after), after)
			cancel()
		}
	})
}

func TestContextsShareATimer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g Group
		parent := context.WithoutCancel(t.Context())
		at := time.Now().Add(time.Second)
		first, _ := g.Context(parent, at)
		second, _ := g.Context(parent, at.Add(grain))
		third, _ := g.Context(parent, at.Add(grain+1))
		require.Equal(t, first.Done(), second.Done())
		require.NotEqual(t, first.Done(), third.Done())
	})
}

// A parent that can be cancelled is.
func TestContextOfACancelledParent(t *testing.T) {
	t.Parallel()
	var g Group
	parent, cancel := context.WithCancel(t.Context())
	ctx, done := g.Context(parent, time.Now().Add(time.Hour))
	defer done()
	cancel()
	<-ctx.Done()
	require.ErrorIs(t, ctx.Err(), context.Canceled)
}

func TestChildrenEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g Group
		ctx, _ := g.Context(context.WithoutCancel(t.Context()), time.Now().Add(time.Second))
		child, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		<-child.Done()
		require.ErrorIs(t, child.Err(), context.DeadlineExceeded)
	})
}

func TestConcurrentContexts(t *testing.T) {
	t.Parallel()
	var g Group
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 200 {
				at := time.Now().Add(time.Duration(i%7) * time.Millisecond)
				ctx, cancel := g.Context(context.Background(), at)
				<-ctx.Done()
				if ctx.Err() == nil || time.Now().Before(at) {
					t.Error("done too soon")
				}
				cancel()
			}
		})
	}
	wg.Wait()
}

func BenchmarkContext(b *testing.B) {
	parent := context.WithoutCancel(b.Context())
	b.Run("group", func(b *testing.B) {
		var g Group
		b.ReportAllocs()
		for b.Loop() {
			_, cancel := g.Context(parent, time.Now().Add(250*time.Millisecond))
			cancel()
		}
	})
	b.Run("context.WithDeadline", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, cancel := context.WithDeadline(parent, time.Now().Add(250*time.Millisecond))
			cancel()
		}
	})
}
