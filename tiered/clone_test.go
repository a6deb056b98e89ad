package tiered

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func cloned(t *testing.T, clone func([]int) []int, change ...func(*Options[[]int])) *Cache[[]int] {
	t.Helper()
	opts := Options[[]int]{
		Load:  func(context.Context, string) ([]int, error) { return []int{1}, nil },
		Clone: clone, MaxStaleness: time.Minute, RedisTimeout: 2 * time.Second, Logger: quietLog(),
	}
	for _, f := range change {
		f(&opts)
	}
	c, err := New(newRedis(t).client(t), "things", opts)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.Ready(soon(t)))
	return c
}

// Whoever changes what he was given changes it for himself alone, wherever it came from.
func TestAClonedValueIsItsCallersOwn(t *testing.T) {
	t.Parallel()
	c := cloned(t, func(v []int) []int { return append([]int(nil), v...) })
	spoil := func(v []int, err error) {
		t.Helper()
		require.NoError(t, err)
		require.Equal(t, []int{1}, v)
		v[0] = 2
	}
	for range 3 { // loaded, then from L1
		spoil(c.Get(soon(t), "k"))
		spoil(c.GetWith(soon(t), "k", GetOptions[[]int]{}))
		spoil(c.Peek(soon(t), "k"))
		many, err := c.GetMany(soon(t), []string{"k", "other"})
		require.NoError(t, err)
		spoil(many["k"], nil)
		spoil(many["other"], nil)
		spoil(c.Refresh(soon(t), "k"))
		c.EvictLocal("other") // from L2 the next time
	}
	joined := make(chan []int, 8)
	c.EvictLocal("k")
	for range cap(joined) {
		go func() {
			v, _ := c.Get(soon(t), "k")
			joined <- v
		}()
	}
	for range cap(joined) {
		spoil(<-joined, nil)
	}
}

func TestACloneThatPanics(t *testing.T) {
	t.Parallel()
	c := cloned(t, func([]int) []int { panic("not today") })
	var p *PanicError
	for range 2 {
		_, err := c.Get(soon(t), "k")
		require.ErrorAs(t, err, &p)
		require.Equal(t, "not today", p.Value)
		got, err := c.GetMany(soon(t), []string{"k", "other"})
		require.Empty(t, got)
		require.ErrorAs(t, err, &p)
	}
	require.Zero(t, c.flights.underway())
}

func TestWithoutCloneTheValueIsShared(t *testing.T) {
	t.Parallel()
	c := cloned(t, nil)
	v, err := c.Get(soon(t), "k")
	require.NoError(t, err)
	w, err := c.Get(soon(t), "k")
	require.NoError(t, err)
	require.Same(t, &v[0], &w[0])
}
