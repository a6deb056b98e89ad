package tiered

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func TestBreakerOpensAfterSeveralKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b breaker
		for range 10 {
			require.False(t, b.failed("poison"), "one key says nothing about the others")
		}
		require.True(t, b.allow())
		require.False(t, b.failed("b"))
		require.True(t, b.failed("c"))
		require.False(t, b.allow())
		require.True(t, b.isOpen())

		time.Sleep(firstRest)
		require.True(t, b.allow(), "the probe")
		require.False(t, b.allow(), "one at a time")
		require.False(t, b.failed("d"))
		time.Sleep(firstRest)
		require.False(t, b.allow(), "the rest doubles")
		time.Sleep(firstRest)
		require.True(t, b.allow())
		b.worked()
		require.True(t, b.allow())
		require.False(t, b.isOpen())
		require.False(t, b.failed("e"))
		require.EqualValues(t, 1, b.opened.Load())

		b.worked()
		for range 20 {
			b.failed("x")
			b.failed("y")
		}
		require.False(t, b.allow())
		time.Sleep(maxRest)
		require.True(t, b.allow(), "the rest is bounded")
		time.Sleep(maxRest)
		require.True(t, b.allow(), "a probe that never tells does not keep it shut")
	})
}

func TestWhatATripSaysOfRedis(t *testing.T) {
	t.Parallel()
	for _, err := range []error{io.EOF, context.DeadlineExceeded, errors.New("dial tcp: connection refused"), redis.ErrPoolTimeout} {
		require.True(t, unreachable(err), "%v", err)
		require.False(t, answered(err), "%v", err)
	}
	refused := replyError("OOM command not allowed")
	for _, err := range []error{nil, redis.Nil, refused} {
		require.False(t, unreachable(err), "%v", err)
		require.True(t, answered(err), "%v", err)
	}
	for _, err := range []error{
		errBudget, fmt.Errorf("%w: %w", errBudget, context.DeadlineExceeded), context.Canceled,
		fmt.Errorf("%w: no heartbeat has told which one it is", errNotTheServer), errors.Join(errNotTheServer, refused),
	} {
		require.False(t, unreachable(err), "%v", err)
		require.False(t, answered(err), "%v", err)
	}
}

// A trip that shows nothing of whether Redis answers leaves the breaker as it is.
func TestATripThatSaysNothing(t *testing.T) {
	t.Parallel()
	c := instance(t, newRedis(t), newSource())
	n := nodeOf(c, "k")
	for _, key := range []string{"a", "b", "c"} {
		c.trip(n, key, "read", io.EOF)
	}
	require.True(t, n.breaker.isOpen())
	for _, err := range []error{errBudget, fmt.Errorf("%w: another one", errNotTheServer), context.Canceled} {
		c.trip(n, "k", "read", err)
		require.True(t, n.breaker.isOpen(), "%v", err)
	}
	c.trip(n, "k", "read", redis.Nil)
	require.False(t, n.breaker.isOpen())
}

type replyError string

func (e replyError) Error() string { return string(e) }
func (replyError) RedisError()     {}

// The heartbeat gets through, reads do not: the first few Gets wait, the others do not.
func TestReadsThatHangOpenTheBreaker(t *testing.T) {
	t.Parallel()
	r, s := newRedis(t), newSource()
	c := instance(t, r, s, func(o *Options[int]) { o.RedisTimeout = 100 * time.Millisecond })
	get(t, c, "warm")
	release := make(chan struct{})
	letGo := sync.OnceFunc(func() { close(release) })
	defer letGo()
	r.intercept(func(cmd string, args []string) error {
		if cmd == "HGET" {
			<-release
		}
		return nil
	})
	began := time.Now()
	const keys = 100
	for i := range keys {
		require.Equal(t, 0, get(t, c, keyName(i)))
	}
	require.Less(t, time.Since(began), keys*c.opts.RedisTimeout/4)
	h := c.Health()
	require.True(t, h.RemoteTrusted && h.BreakerOpen)
	require.EqualValues(t, 1, c.Stats().BreakerOpened)

	letGo()
	r.up()
	i := keys
	eventually(t, "a probe closes it", func() bool {
		i++
		get(t, c, keyName(i))
		return !c.Health().BreakerOpen
	})
	fills := c.Stats().Fills
	eventually(t, "what is loaded is stored", func() bool { // though not always within RedisTimeout
		i++
		s.write(keyName(i))
		require.Equal(t, 1, get(t, c, keyName(i)))
		return c.Stats().Fills > fills
	})
}
