package tiered

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPeek(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	f := fleet(t, 2, r, s)
	a, b := f[0], f[1]
	s.write("k")
	_, err := a.Peek(soon(t), "k")
	require.ErrorIs(t, err, ErrNotFound)
	require.Zero(t, s.loads.Load(), "nobody loads")
	require.False(t, r.Exists(entryOf("k")), "nor takes a lease")

	require.Equal(t, 1, get(t, a, "k"))
	for _, c := range f { // from L1, and from Redis
		v, err := c.Peek(soon(t), "k")
		require.NoError(t, err)
		require.Equal(t, 1, v)
	}
	require.Nil(t, b.local.Get("k"), "it leaves the tiers as they are")
	require.EqualValues(t, 1, s.loads.Load())

	s.missing["none"] = true
	_, err = a.Get(soon(t), "none")
	require.ErrorIs(t, err, ErrNotFound)
	for _, c := range f {
		_, err = c.Peek(soon(t), "none")
		require.ErrorIs(t, err, ErrNotFound)
	}
}

// C2 holds for it: it neither joins the load of an old value nor believes Redis about what is pending.
func TestPeekAfterAWrite(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	c := instance(t, r, s)
	require.Zero(t, get(t, c, "k"))
	s.write("k")
	require.NoError(t, c.Invalidate(soon(t), "k"))
	_, err := c.Peek(soon(t), "k")
	require.ErrorIs(t, err, ErrNotFound)

	require.Equal(t, 1, get(t, c, "k"))
	r.intercept(func(cmd string, _ []string) error {
		if strings.HasPrefix(cmd, "EVAL") {
			return errSource
		}
		return nil
	})
	s.write("k")
	require.ErrorIs(t, c.Invalidate(soon(t), "k"), ErrPending)
	_, err = c.Peek(soon(t), "k")
	require.ErrorIs(t, err, ErrNotFound)
}

func TestPeekDuringALoad(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	c := instance(t, r, s)
	read, letGo := s.holdNext()
	defer letGo()
	got := getAsync(soon(t), c, "k")
	<-read
	_, err := c.Peek(soon(t), "k")
	require.ErrorIs(t, err, ErrNotFound, "it does not wait")
	letGo()
	require.NoError(t, (<-got).err)
}

func TestPeekWithoutRedis(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	c := instance(t, r, s, func(o *Options[int]) { o.MaxStaleness, o.RedisTimeout = time.Minute, 100*time.Millisecond })
	require.Zero(t, get(t, c, "k"))
	r.down()
	v, err := c.Peek(soon(t), "k")
	require.NoError(t, err)
	require.Zero(t, v)
	_, err = c.Peek(soon(t), "other")
	require.ErrorIs(t, err, ErrNotFound)
	r.up()

	over, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = c.Peek(over, "other")
	require.ErrorIs(t, err, context.Canceled)
	_, err = c.Peek(soon(t), "")
	require.ErrorIs(t, err, ErrInvalidKey)
	require.NoError(t, c.Close())
	_, err = c.Peek(soon(t), "k")
	require.ErrorIs(t, err, ErrClosed)
}

func TestEvictLocal(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	f := fleet(t, 2, r, s)
	trustsRedis(t, f...)
	for _, c := range f {
		require.Zero(t, get(t, c, "k"))
	}
	f[0].EvictLocal("k", "never there", "")
	require.Nil(t, f[0].local.Get("k"))
	require.NotNil(t, f[1].local.Get("k"))
	require.Zero(t, get(t, f[0], "k"))
	require.EqualValues(t, 1, s.loads.Load(), "Redis has kept it")
}
